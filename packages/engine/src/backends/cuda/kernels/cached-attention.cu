// Compiled once per element type T. One block per (sequence, new token, head); its warps share the keys, each with its
// own running softmax, merged in a fixed order at the end.
#define PER_LANE 8
#define WARPS 16

struct Shape {
  int batch, tokens, heads, kvHeads, headDim, window;
  float scale;
};

__device__ __forceinline__ void load_row(float* row, const T* from, int headDim) {
#pragma unroll
  for (int e = 0; e < PER_LANE; e++) {
    const int d = e * 32 + (threadIdx.x & 31);
    row[e] = d < headDim ? to_f32(from[d]) : 0.f;
  }
}

extern "C" __global__ void __launch_bounds__(WARPS * 32) cachedAttention(T* o, const T* q, const T* k, const T* v, const T* keys, const T* values, const int* lengths, Shape s) {
  __shared__ float tops[WARPS], totals[WARPS], sums[WARPS][256];
  const int index = blockIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int h = index % s.heads, t = index / s.heads % s.tokens, b = index / s.heads / s.tokens;
  const int kv = h / (s.heads / s.kvHeads);
  const int length = lengths[b], position = length + t;
  float row[PER_LANE], other[PER_LANE], sum[PER_LANE] = {};
  load_row(row, q + (size_t)index * s.headDim, s.headDim);
  float top = -INFINITY, total = 0.f;
#pragma unroll 4
  for (int p = (s.window > 0 ? max(0, position - s.window + 1) : 0) + warp; p <= position; p += WARPS) {
    const bool old = p < length;
    const size_t at = (old ? ((size_t)p * s.batch + b) * s.kvHeads + kv : (size_t)(b * s.tokens + p - length) * s.kvHeads + kv) * s.headDim;
    load_row(other, (old ? keys : k) + at, s.headDim);
    float score = 0.f;
#pragma unroll
    for (int e = 0; e < PER_LANE; e++) score = fmaf(row[e], other[e], score);
    score = s.scale * warp_sum(score);
    const float next = fmaxf(top, score), shrink = __expf(top - next), weight = __expf(score - next);
    load_row(other, (old ? values : v) + at, s.headDim);
#pragma unroll
    for (int e = 0; e < PER_LANE; e++) sum[e] = sum[e] * shrink + weight * other[e];
    total = total * shrink + weight;
    top = next;
  }
  if (lane == 0) {
    tops[warp] = top;
    totals[warp] = total;
  }
  for (int e = 0; e < PER_LANE; e++) sums[warp][e * 32 + lane] = sum[e];
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
