// Compiled once per element type T, PER_LANE (1, 2, 4 or 8), the head elements of a lane, and HEADS, the query heads of a
// block, which share one key-value head. The warps of a block share the keys, each with its own running softmax, merged
// in a fixed order at the end.
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
  __shared__ float tops[WARPS][HEADS], totals[WARPS][HEADS], sums[WARPS][HEADS][32 * PER_LANE];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, parts = s.heads / HEADS;
  const int h = blockIdx.x % parts * HEADS, t = blockIdx.x / parts % s.tokens, b = blockIdx.x / parts / s.tokens;
  const int kv = h / (s.heads / s.kvHeads);
  const size_t query = (((size_t)b * s.tokens + t) * s.heads + h) * s.headDim;
  const int length = lengths[b], position = length + t;
  float row[HEADS][PER_LANE], sum[HEADS][PER_LANE] = {}, top[HEADS], total[HEADS] = {};
#pragma unroll
  for (int n = 0; n < HEADS; n++) {
    load_row(row[n], q + query + n * s.headDim, s.headDim);
    top[n] = -INFINITY;
  }
  for (int p = (s.window > 0 ? max(0, position - s.window + 1) : 0) + warp * KEYS; p <= position; p += WARPS * KEYS) {
    float other[KEYS][PER_LANE], score[HEADS][KEYS];
    const T* from[KEYS];
#pragma unroll
    for (int i = 0; i < KEYS; i++) {
      const int at = min(p + i, position);
      const bool old = at < length;
      const size_t entry = (old ? ((size_t)at * s.batch + b) * s.kvHeads + kv : (size_t)(b * s.tokens + at - length) * s.kvHeads + kv) * s.headDim;
      load_row(other[i], (old ? keys : k) + entry, s.headDim);
      from[i] = (old ? values : v) + entry;
    }
#pragma unroll
    for (int i = 0; i < KEYS; i++) {
#pragma unroll
      for (int n = 0; n < HEADS; n++) {
        score[n][i] = 0.f;
#pragma unroll
        for (int e = 0; e < PER_LANE; e++) score[n][i] = fmaf(row[n][e], other[i][e], score[n][i]);
      }
      load_row(other[i], from[i], s.headDim);
    }
#pragma unroll
    for (int n = 0; n < HEADS; n++) {
      float next = top[n];
#pragma unroll
      for (int i = 0; i < KEYS; i++) {
        const float whole = s.scale * warp_sum(score[n][i]);
        score[n][i] = p + i <= position ? whole : -INFINITY;
        next = fmaxf(next, score[n][i]);
      }
      const float shrink = __expf(top[n] - next);
      total[n] *= shrink;
#pragma unroll
      for (int e = 0; e < PER_LANE; e++) sum[n][e] *= shrink;
#pragma unroll
      for (int i = 0; i < KEYS; i++) {
        const float weight = __expf(score[n][i] - next);
        total[n] += weight;
#pragma unroll
        for (int e = 0; e < PER_LANE; e++) sum[n][e] = fmaf(weight, other[i][e], sum[n][e]);
      }
      top[n] = next;
    }
  }
#pragma unroll
  for (int n = 0; n < HEADS; n++) {
    if (lane == 0) {
      tops[warp][n] = top[n];
      totals[warp][n] = total[n];
    }
#pragma unroll
    for (int e = 0; e < PER_LANE; e++) sums[warp][n][lane * PER_LANE + e] = sum[n][e];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < HEADS * s.headDim; i += blockDim.x) {
    const int n = i / s.headDim, d = i % s.headDim;
    float best = tops[0][n];
    for (int w = 1; w < WARPS; w++) best = fmaxf(best, tops[w][n]);
    float numerator = 0.f, denominator = 0.f;
    for (int w = 0; w < WARPS; w++) {
      const float weight = tops[w][n] == -INFINITY ? 0.f : __expf(tops[w][n] - best);
      numerator += weight * sums[w][n][d];
      denominator += weight * totals[w][n];
    }
    o[query + (size_t)n * s.headDim + d] = From<T>::f32(numerator / denominator);
  }
}
