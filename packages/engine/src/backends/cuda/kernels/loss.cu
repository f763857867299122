// Compiled once per type of the logits (T) and of their gradient (TGRAD). One block per row.
#define IGNORED -100

struct Row {
  float top;
  float sum;
  float total;
  int first;
};

/** Maximum, its first index, sum of exponentials and sum of the logits. Every thread gets the same result. */
__device__ Row row_of(const T* logits, int vocabulary, bool wantsIndex, float* shared) {
  __shared__ int sharedIndex[32];
  Row r;
  float top = -INFINITY, total = 0.f;
  int first = 0x7fffffff;
  for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
    const float v = to_f32(logits[i]);
    total += v;
    if (v > top) {
      top = v;
      first = i;
    }
  }
  r.top = block_max(top, shared);
  r.total = block_sum(total, shared);
  float sum = 0.f;
  for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) sum += expf(to_f32(logits[i]) - r.top);
  r.sum = block_sum(sum, shared);
  r.first = 0;
  if (wantsIndex) {
    int mine = top == r.top ? first : 0x7fffffff;
    for (int offset = 16; offset > 0; offset >>= 1) mine = min(mine, __shfl_xor_sync(0xffffffffu, mine, offset));
    __syncthreads();
    if ((threadIdx.x & 31) == 0) sharedIndex[threadIdx.x >> 5] = mine;
    __syncthreads();
    r.first = sharedIndex[0];
    for (int w = 1; w < (blockDim.x + 31) >> 5; w++) r.first = min(r.first, sharedIndex[w]);
  }
  return r;
}

extern "C" __global__ void crossEntropy(float* loss, float* correct, const T* logits, const int* targets, int vocabulary, float smoothing) {
  __shared__ float shared[32];
  const int target = targets[blockIdx.x];
  if (target == IGNORED) {
    if (threadIdx.x == 0) loss[blockIdx.x] = correct[blockIdx.x] = 0.f;
    return;
  }
  const T* row = logits + (size_t)blockIdx.x * vocabulary;
  const Row r = row_of(row, vocabulary, true, shared);
  if (threadIdx.x != 0) return;
  const float logTotal = r.top + logf(r.sum);
  const float nll = logTotal - to_f32(row[target]);
  const float uniform = logTotal - r.total / vocabulary;
  loss[blockIdx.x] = (1.f - smoothing) * nll + smoothing * uniform;
  correct[blockIdx.x] = r.first == target ? 1.f : 0.f;
}

extern "C" __global__ void crossEntropyBackward(TGRAD* d, const float* dLoss, const T* logits, const int* targets, int vocabulary, float smoothing) {
  __shared__ float shared[32];
  const int target = targets[blockIdx.x];
  const size_t base = (size_t)blockIdx.x * vocabulary;
  if (target == IGNORED) {
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) d[base + i] = From<TGRAD>::f32(0.f);
    return;
  }
  const Row r = row_of(logits + base, vocabulary, false, shared);
  const float scale = 1.f / r.sum, g = dLoss[blockIdx.x], even = smoothing / vocabulary;
  for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
    const float p = expf(to_f32(logits[base + i]) - r.top) * scale;
    d[base + i] = From<TGRAD>::f32(g * (p - (i == target ? 1.f - smoothing : 0.f) - even));
  }
}

/** Both of the above over one reading of the row's statistics, with the same cotangent g for every row. */
extern "C" __global__ void crossEntropyBoth(float* loss, float* correct, TGRAD* d, const T* logits, const int* targets, int vocabulary, float smoothing, float g) {
  __shared__ float shared[32];
  const int target = targets[blockIdx.x];
  const size_t base = (size_t)blockIdx.x * vocabulary;
  if (target == IGNORED) {
    if (threadIdx.x == 0) loss[blockIdx.x] = correct[blockIdx.x] = 0.f;
    for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) d[base + i] = From<TGRAD>::f32(0.f);
    return;
  }
  const Row r = row_of(logits + base, vocabulary, true, shared);
  const float scale = 1.f / r.sum, even = smoothing / vocabulary;
  for (int i = threadIdx.x; i < vocabulary; i += blockDim.x) {
    const float p = expf(to_f32(logits[base + i]) - r.top) * scale;
    d[base + i] = From<TGRAD>::f32(g * (p - (i == target ? 1.f - smoothing : 0.f) - even));
  }
  if (threadIdx.x != 0) return;
  const float logTotal = r.top + logf(r.sum);
  const float nll = logTotal - to_f32(logits[base + target]);
  loss[blockIdx.x] = (1.f - smoothing) * nll + smoothing * (logTotal - r.total / vocabulary);
  correct[blockIdx.x] = r.first == target ? 1.f : 0.f;
}
