// Compiled once per element type T and PER_LANE (1, 2, 4 or 8), the head
// elements of a lane. One block per (sequence, new token, head); its warps share the keys, each with its
// own running softmax, merged in a fixed order at the end.
#define WARPS 16
#define KEYS 4

struct Shape {
  int batch, tokens, heads, kvHeads, headDim, window;
  float scale;
};

struct alignas(sizeof(T) * PER_LANE) Lane {
  T v[PER_LANE];
};

/** Each lane takes PER_LANE neighbouring elements. */
__device__ __forceinline__ void load_row(float* row, const T* from, int headDim) {
  const int first = (threadIdx.x & 31) * PER_LANE;
  if (headDim % PER_LANE == 0) {
    Lane lane = {};
    if (first < headDim) lane = *(const Lane*)(from + first);
#pragma unroll
    for (int e = 0; e < PER_LANE; e++) row[e] = first < headDim ? to_f32(lane.v[e]) : 0.f;
    return;
  }
  for (int e = 0; e < PER_LANE; e++) row[e] = first + e < headDim ? to_f32(from[first + e]) : 0.f;
}

extern "C" __global__ void __launch_bounds__(WARPS * 32) cachedAttention(T* o, const T* q, const T* k, const T* v, const T* keys, const T* values, const int* lengths, Shape s) {
  __shared__ float tops[WARPS], totals[WARPS], sums[WARPS][32 * PER_LANE];
  const int index = blockIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int h = index % s.heads, t = index / s.heads % s.tokens, b = index / s.heads / s.tokens;
  const int kv = h / (s.heads / s.kvHeads);
  const int length = lengths[b], position = length + t;
  float row[PER_LANE], sum[PER_LANE] = {};
  load_row(row, q + (size_t)index * s.headDim, s.headDim);
  float top = -INFINITY, total = 0.f;
  for (int p = (s.window > 0 ? max(0, position - s.window + 1) : 0) + warp * KEYS; p <= position; p += WARPS * KEYS) {
    float other[KEYS][PER_LANE], score[KEYS];
    const T* from[KEYS];
#pragma unroll
    for (int i = 0; i < KEYS; i++) {
      const int at = min(p + i, position);
      const bool old = at < length;
      const size_t entry = (old ? ((size_t)at * s.batch + b) * s.kvHeads + kv : (size_t)(b * s.tokens + at - length) * s.kvHeads + kv) * s.headDim;
      load_row(other[i], (old ? keys : k) + entry, s.headDim);
      from[i] = (old ? values : v) + entry;
    }
    float next = top;
#pragma unroll
    for (int i = 0; i < KEYS; i++) {
      score[i] = 0.f;
#pragma unroll
      for (int e = 0; e < PER_LANE; e++) score[i] = fmaf(row[e], other[i][e], score[i]);
      load_row(other[i], from[i], s.headDim);
      score[i] = p + i <= position ? s.scale * warp_sum(score[i]) : -INFINITY;
      next = fmaxf(next, score[i]);
    }
    const float shrink = __expf(top - next);
    total *= shrink;
#pragma unroll
    for (int e = 0; e < PER_LANE; e++) sum[e] *= shrink;
#pragma unroll
    for (int i = 0; i < KEYS; i++) {
      const float weight = __expf(score[i] - next);
      total += weight;
#pragma unroll
      for (int e = 0; e < PER_LANE; e++) sum[e] = fmaf(weight, other[i][e], sum[e]);
    }
    top = next;
  }
  if (lane == 0) {
    tops[warp] = top;
    totals[warp] = total;
  }
  for (int e = 0; e < PER_LANE; e++) sums[warp][lane * PER_LANE + e] = sum[e];
  __syncthreads();
  float best = tops[0];
  for (int w = 1; w < WARPS; w++) best = fmaxf(best, tops[w]);
  for (int d = threadIdx.x; d < s.headDim; d += blockDim.x) {
    float numerator = 0.f, denominator = 0.f;
    for (int w = 0; w < WARPS; w++) {
      const float weight = tops[w] == -INFINITY ? 0.f : __expf(tops[w] - best);
      numerator += weight * sums[w][d];
      denominator += weight * totals[w];
    }
    o[(size_t)index * s.headDim + d] = From<T>::f32(numerator / denominator);
  }
}
