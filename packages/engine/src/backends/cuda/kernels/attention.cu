// Attention for any head size up to 256 and any element type T: one warp per query (or key) row, head elements spread
// over its lanes. The tensor-core kernels of flash-attention.cu replace it where they can.
#define PER_LANE 8

struct Shape {
  int batch, tokens, heads, kvHeads, headDim, window;
  float scale;
};

__device__ __forceinline__ void load_row(float* row, const T* from, int headDim) {
  for (int e = 0; e < PER_LANE; e++) {
    const int d = e * 32 + (threadIdx.x & 31);
    row[e] = d < headDim ? to_f32(from[d]) : 0.f;
  }
}
__device__ __forceinline__ float dot_rows(const float* a, const float* b) {
  float total = 0.f;
  for (int e = 0; e < PER_LANE; e++) total = fmaf(a[e], b[e], total);
  return warp_sum(total);
}
__device__ __forceinline__ void store_row(T* to, const float* row, int headDim) {
  for (int e = 0; e < PER_LANE; e++) {
    const int d = e * 32 + (threadIdx.x & 31);
    if (d < headDim) to[d] = From<T>::f32(row[e]);
  }
}

extern "C" __global__ void attention(T* o, float* lse, const T* q, const T* k, const T* v, const int* segments, Shape s) {
  const int index = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (index >= s.batch * s.tokens * s.heads) return;
  const int h = index % s.heads, i = index / s.heads % s.tokens, b = index / s.heads / s.tokens;
  const int kv = h / (s.heads / s.kvHeads);
  float row[PER_LANE], key[PER_LANE], sum[PER_LANE] = {};
  load_row(row, q + (size_t)index * s.headDim, s.headDim);
  float top = -INFINITY, total = 0.f;
  for (int j = s.window > 0 ? max(0, i - s.window + 1) : 0; j <= i; j++) {
    if (segments && segments[b * s.tokens + i] != segments[b * s.tokens + j]) continue;
    const size_t at = ((size_t)(b * s.tokens + j) * s.kvHeads + kv) * s.headDim;
    load_row(key, k + at, s.headDim);
    const float score = s.scale * dot_rows(row, key);
    const float next = fmaxf(top, score), shrink = expf(top - next), p = expf(score - next);
    load_row(key, v + at, s.headDim);
    for (int e = 0; e < PER_LANE; e++) sum[e] = sum[e] * shrink + p * key[e];
    total = total * shrink + p;
    top = next;
  }
  for (int e = 0; e < PER_LANE; e++) sum[e] /= total;
  store_row(o + (size_t)index * s.headDim, sum, s.headDim);
  if ((threadIdx.x & 31) == 0) lse[((size_t)b * s.heads + h) * s.tokens + i] = top + logf(total);
}

/** delta[b, h, i] = dO . o of the row. */
extern "C" __global__ void attentionDelta(float* delta, const T* dO, const T* o, Shape s) {
  const int index = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (index >= s.batch * s.tokens * s.heads) return;
  const int h = index % s.heads, i = index / s.heads % s.tokens, b = index / s.heads / s.tokens;
  float x[PER_LANE], y[PER_LANE];
  load_row(x, dO + (size_t)index * s.headDim, s.headDim);
  load_row(y, o + (size_t)index * s.headDim, s.headDim);
  const float total = dot_rows(x, y);
  if ((threadIdx.x & 31) == 0) delta[((size_t)b * s.heads + h) * s.tokens + i] = total;
}

extern "C" __global__ void attentionBackwardQ(T* dQ, const T* dO, const T* q, const T* k, const T* v, const float* lse, const float* delta, const int* segments, Shape s) {
  const int index = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (index >= s.batch * s.tokens * s.heads) return;
  const int h = index % s.heads, i = index / s.heads % s.tokens, b = index / s.heads / s.tokens;
  const int kv = h / (s.heads / s.kvHeads);
  const size_t entry = ((size_t)b * s.heads + h) * s.tokens + i;
  float row[PER_LANE], d[PER_LANE], key[PER_LANE], value[PER_LANE], sum[PER_LANE] = {};
  load_row(row, q + (size_t)index * s.headDim, s.headDim);
  load_row(d, dO + (size_t)index * s.headDim, s.headDim);
  for (int j = s.window > 0 ? max(0, i - s.window + 1) : 0; j <= i; j++) {
    if (segments && segments[b * s.tokens + i] != segments[b * s.tokens + j]) continue;
    const size_t at = ((size_t)(b * s.tokens + j) * s.kvHeads + kv) * s.headDim;
    load_row(key, k + at, s.headDim);
    load_row(value, v + at, s.headDim);
    const float p = expf(s.scale * dot_rows(row, key) - lse[entry]);
    const float ds = s.scale * p * (dot_rows(d, value) - delta[entry]);
    for (int e = 0; e < PER_LANE; e++) sum[e] = fmaf(ds, key[e], sum[e]);
  }
  store_row(dQ + (size_t)index * s.headDim, sum, s.headDim);
}

extern "C" __global__ void attentionBackwardKV(T* dK, T* dV, const T* dO, const T* q, const T* k, const T* v, const float* lse, const float* delta, const int* segments, Shape s) {
  const int index = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (index >= s.batch * s.tokens * s.kvHeads) return;
  const int kv = index % s.kvHeads, j = index / s.kvHeads % s.tokens, b = index / s.kvHeads / s.tokens;
  const int group = s.heads / s.kvHeads;
  const int end = s.window > 0 ? min(s.tokens, j + s.window) : s.tokens;
  float key[PER_LANE], value[PER_LANE], row[PER_LANE], d[PER_LANE], sumK[PER_LANE] = {}, sumV[PER_LANE] = {};
  load_row(key, k + (size_t)index * s.headDim, s.headDim);
  load_row(value, v + (size_t)index * s.headDim, s.headDim);
  for (int h = kv * group; h < (kv + 1) * group; h++) {
    for (int i = j; i < end; i++) {
      if (segments && segments[b * s.tokens + i] != segments[b * s.tokens + j]) continue;
      const size_t at = ((size_t)(b * s.tokens + i) * s.heads + h) * s.headDim;
      const size_t entry = ((size_t)b * s.heads + h) * s.tokens + i;
      load_row(row, q + at, s.headDim);
      load_row(d, dO + at, s.headDim);
      const float p = expf(s.scale * dot_rows(row, key) - lse[entry]);
      const float ds = s.scale * p * (dot_rows(d, value) - delta[entry]);
      for (int e = 0; e < PER_LANE; e++) {
        sumV[e] = fmaf(p, d[e], sumV[e]);
        sumK[e] = fmaf(ds, row[e], sumK[e]);
      }
    }
  }
  store_row(dK + (size_t)index * s.headDim, sumK, s.headDim);
  store_row(dV + (size_t)index * s.headDim, sumV, s.headDim);
}
