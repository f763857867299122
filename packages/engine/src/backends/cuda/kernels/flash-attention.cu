// FlashAttention-2 (Dao 2023) on mma.sync tensor cores: causal, grouped queries, sliding window, segments. Compiled once
// per element type T (bf16 or f16), HEAD_DIM (a multiple of 16 up to 128) and WARPS. The backward pass is two kernels
// without atomics, so results are the same in every run: one block per key tile sums dK and dV over the query heads of
// its group, one block per query tile sums dQ.
constexpr int D = HEAD_DIM;
constexpr int LD = D + 8;      // padded rows: ldmatrix without bank conflicts
constexpr int KSTEPS = D / 16;
constexpr int DTILES = D / 8;
constexpr int TILE = 64;       // rows of the streamed tiles
constexpr int OWN = 16 * WARPS; // rows of a block's own tile
constexpr int THREADS = 32 * WARPS;

#include "flash-common.cuh"

__device__ __forceinline__ void ldmatrix(u32* r, const T* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)));
}
__device__ __forceinline__ void ldmatrix_transposed(u32* r, const T* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)));
}
__device__ __forceinline__ void mma(float* c, const u32* a, const u32* b, bf16) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma(float* c, const u32* a, const u32* b, f16) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/** Rows [first, first + ROWS) of one head into shared memory; rows at and beyond `tokens` become zeros. */
template <int ROWS> __device__ __forceinline__ void load_tile(T* to, const T* from, int first, int tokens, int stride) {
  constexpr int chunks = D / 8;
  for (int c = threadIdx.x; c < ROWS * chunks; c += THREADS) {
    const int row = c / chunks, column = (c % chunks) * 8;
    const bool inside = first + row < tokens;
    const T* source = from + (size_t)(inside ? first + row : 0) * stride + column;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to + row * LD + column)), "l"(source), "r"(inside ? 16 : 0));
  }
}
/** Address for an A fragment (16 x 16, row-major) at (row, column). */
__device__ __forceinline__ const T* a_at(const T* tile, int row, int column) {
  const int lane = threadIdx.x & 31;
  return tile + (row + (lane & 15)) * LD + column + (lane >> 4) * 8;
}
/** Address for two B fragments whose n runs along rows: n in [row, row + 16), k in [column, column + 16). */
__device__ __forceinline__ const T* b_at(const T* tile, int row, int column) {
  const int lane = threadIdx.x & 31;
  return tile + (row + (lane & 7) + (lane >> 4) * 8) * LD + column + ((lane >> 3) & 1) * 8;
}

/** Writes a warp's 16 x D accumulators through shared memory, so that global stores are 16 bytes wide. */
__device__ __forceinline__ void store_rows(T* to, T* staging, float (*acc)[4], float low, float high, int first, int tokens, int stride) {
  const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
#pragma unroll
  for (int n = 0; n < DTILES; n++) {
    *(u32*)(staging + g * LD + n * 8 + 2 * t) = pack2(acc[n][0] * low, acc[n][1] * low, T());
    *(u32*)(staging + (g + 8) * LD + n * 8 + 2 * t) = pack2(acc[n][2] * high, acc[n][3] * high, T());
  }
  __syncwarp();
  for (int c = lane; c < 16 * (D / 8); c += 32) {
    const int row = c / (D / 8), column = (c % (D / 8)) * 8;
    if (first + row < tokens) *(uint4*)(to + (size_t)(first + row) * stride + column) = *(uint4*)(staging + row * LD + column);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS) flashForward(T* o, float* lse, const T* q, const T* k, const T* v, const int* segments, Shape s) {
  extern __shared__ uint4 memory[];
  T* tileQ = (T*)memory;
  T* tileK = tileQ + OWN * LD;
  T* tileV = tileK + 2 * TILE * LD;
  // The tile is the slowest index and the longest rows come first, so that no long block starts last.
  const int block = gridDim.z - 1 - blockIdx.z, h = blockIdx.x, b = blockIdx.y;
  const int first = block * OWN, kv = h / (s.heads / s.kvHeads);
  const int strideQ = s.heads * D, strideK = s.kvHeads * D;
  q += (size_t)b * s.tokens * strideQ + h * D;
  o += (size_t)b * s.tokens * strideQ + h * D;
  k += (size_t)b * s.tokens * strideK + kv * D;
  v += (size_t)b * s.tokens * strideK + kv * D;
  if (segments) segments += b * s.tokens;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int last = min(first + OWN, s.tokens) - 1;
  const int begin = s.window > 0 ? max(0, first - s.window + 1) / TILE : 0, end = last / TILE + 1;
  load_tile<OWN>(tileQ, q, first, s.tokens, strideQ);
  load_tile<TILE>(tileK, k, begin * TILE, s.tokens, strideK);
  load_tile<TILE>(tileV, v, begin * TILE, s.tokens, strideK);
  commit();
  float acc[DTILES][4] = {};
  float top[2] = {-INFINITY, -INFINITY}, total[2] = {0.f, 0.f};
  const float c = s.scale * LOG2E;
  const int row0 = first + warp * 16 + g;
  for (int j = begin; j < end; j++) {
    const int stage = (j - begin) & 1;
    if (j + 1 < end) {
      load_tile<TILE>(tileK + (stage ^ 1) * TILE * LD, k, (j + 1) * TILE, s.tokens, strideK);
      load_tile<TILE>(tileV + (stage ^ 1) * TILE * LD, v, (j + 1) * TILE, s.tokens, strideK);
    }
    commit();
    wait<1>();
    __syncthreads();
    const T* keys = tileK + stage * TILE * LD;
    const T* values = tileV + stage * TILE * LD;
    float score[TILE / 8][4] = {};
#pragma unroll
    for (int ks = 0; ks < KSTEPS; ks++) {
      u32 a[4], bs[4];
      ldmatrix(a, a_at(tileQ, warp * 16, ks * 16));
#pragma unroll
      for (int n = 0; n < TILE / 16; n++) {
        ldmatrix(bs, b_at(keys, n * 16, ks * 16));
        mma(score[2 * n], a, bs, T());
        mma(score[2 * n + 1], a, bs + 2, T());
      }
    }
    if (segments || !all_attend(first + warp * 16, 16, j * TILE, TILE, s)) {
#pragma unroll
      for (int n = 0; n < TILE / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int column = j * TILE + n * 8 + 2 * t + (e & 1);
          if (!may_attend(row0 + (e >> 1) * 8, column, s, segments)) score[n][e] = -INFINITY;
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float best = top[r];
#pragma unroll
      for (int n = 0; n < TILE / 8; n++) best = fmaxf(best, fmaxf(score[n][2 * r], score[n][2 * r + 1]));
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 1));
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 2));
      const float base = best == -INFINITY ? 0.f : best * c;
      const float shrink = exp2_fast(top[r] * c - base);
      top[r] = best;
      float sum = 0.f;
#pragma unroll
      for (int n = 0; n < TILE / 8; n++) {
        score[n][2 * r] = exp2_fast(fmaf(score[n][2 * r], c, -base));
        score[n][2 * r + 1] = exp2_fast(fmaf(score[n][2 * r + 1], c, -base));
        sum += score[n][2 * r] + score[n][2 * r + 1];
      }
      total[r] = total[r] * shrink + sum;
#pragma unroll
      for (int n = 0; n < DTILES; n++) {
        acc[n][2 * r] *= shrink;
        acc[n][2 * r + 1] *= shrink;
      }
    }
#pragma unroll
    for (int ks = 0; ks < TILE / 16; ks++) {
      u32 a[4], bs[4];
      a[0] = pack2(score[2 * ks][0], score[2 * ks][1], T());
      a[1] = pack2(score[2 * ks][2], score[2 * ks][3], T());
      a[2] = pack2(score[2 * ks + 1][0], score[2 * ks + 1][1], T());
      a[3] = pack2(score[2 * ks + 1][2], score[2 * ks + 1][3], T());
#pragma unroll
      for (int n = 0; n < DTILES / 2; n++) {
        ldmatrix_transposed(bs, a_at(values, ks * 16, n * 16));
        mma(acc[2 * n], a, bs, T());
        mma(acc[2 * n + 1], a, bs + 2, T());
      }
    }
    __syncthreads();
  }
  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    total[r] += __shfl_xor_sync(0xffffffffu, total[r], 1);
    total[r] += __shfl_xor_sync(0xffffffffu, total[r], 2);
    inverse[r] = 1.f / total[r];
    const int row = row0 + r * 8;
    if (t == 0 && row < s.tokens) lse[((size_t)b * s.heads + h) * s.tokens + row] = top[r] * s.scale + logf(total[r]);
  }
  store_rows(o, tileQ + warp * 16 * LD, acc, inverse[0], inverse[1], first + warp * 16, s.tokens, strideQ);
}

/** delta[b, h, i] = dO . o of the row: half a warp per row, 16 bytes a lane. */
extern "C" __global__ void flashDelta(float* delta, const T* dO, const T* o, Shape s) {
  const int index = (blockIdx.x * blockDim.x + threadIdx.x) >> 4, lane = threadIdx.x & 15;
  const bool inside = index < s.batch * s.tokens * s.heads;
  float total = 0.f;
  if (inside && lane < D / 8) {
    const size_t at = (size_t)index * D + lane * 8;
    const Pack<T> x = *(const Pack<T>*)(dO + at), y = *(const Pack<T>*)(o + at);
    for (int e = 0; e < 8; e++) total = fmaf(to_f32(x.v[e]), to_f32(y.v[e]), total);
  }
  for (int offset = 8; offset > 0; offset >>= 1) total += __shfl_xor_sync(0xffffffffu, total, offset);
  const int h = index % s.heads, i = index / s.heads % s.tokens, b = index / s.heads / s.tokens;
  if (inside && lane == 0) delta[((size_t)b * s.heads + h) * s.tokens + i] = total;
}

extern "C" __global__ void __launch_bounds__(THREADS) flashBackwardKV(T* dK, T* dV, const T* dO, const T* q, const T* k, const T* v, const float* lse, const float* delta, const int* segments, Shape s) {
  extern __shared__ uint4 memory[];
  T* tileK = (T*)memory;
  T* tileV = tileK + OWN * LD;
  T* tileQ = tileV + OWN * LD;
  T* tileO = tileQ + 2 * TILE * LD;
  float* rowLse = (float*)(tileO + 2 * TILE * LD);
  float* rowDelta = rowLse + 2 * TILE;
  const int kv = blockIdx.x, b = blockIdx.y, first = blockIdx.z * OWN;
  const int group = s.heads / s.kvHeads, strideQ = s.heads * D, strideK = s.kvHeads * D;
  const size_t baseQ = (size_t)b * s.tokens * strideQ, baseK = (size_t)b * s.tokens * strideK + kv * D;
  if (segments) segments += b * s.tokens;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int begin = first / TILE;
  const int lastQ = s.window > 0 ? min(s.tokens, first + OWN + s.window - 1) : s.tokens;
  const int tiles = (lastQ - 1) / TILE + 1 - begin, count = tiles * group;
  auto fetch = [&](int index) {
    const int h = kv * group + index / tiles, at = (begin + index % tiles) * TILE, stage = index & 1;
    load_tile<TILE>(tileQ + stage * TILE * LD, q + baseQ + h * D, at, s.tokens, strideQ);
    load_tile<TILE>(tileO + stage * TILE * LD, dO + baseQ + h * D, at, s.tokens, strideQ);
    for (int i = threadIdx.x; i < TILE; i += THREADS) {
      const bool inside = at + i < s.tokens;
      const size_t entry = ((size_t)b * s.heads + h) * s.tokens + at + i;
      rowLse[stage * TILE + i] = inside ? lse[entry] * LOG2E : 0.f;
      rowDelta[stage * TILE + i] = inside ? delta[entry] : 0.f;
    }
  };
  load_tile<OWN>(tileK, k + baseK, first, s.tokens, strideK);
  load_tile<OWN>(tileV, v + baseK, first, s.tokens, strideK);
  fetch(0);
  commit();
  float sumK[DTILES][4] = {}, sumV[DTILES][4] = {};
  const float c = s.scale * LOG2E;
  const int key0 = first + warp * 16 + g;
  for (int index = 0; index < count; index++) {
    const int stage = index & 1, at = (begin + index % tiles) * TILE;
    if (index + 1 < count) fetch(index + 1);
    commit();
    wait<1>();
    __syncthreads();
    const T* queries = tileQ + stage * TILE * LD;
    const T* grads = tileO + stage * TILE * LD;
    const bool masked = segments || !all_attend(at, TILE, first + warp * 16, 16, s);
#pragma unroll
    for (int half = 0; half < TILE; half += 32) {
      float score[4][4] = {}, dP[4][4] = {};
#pragma unroll
      for (int ks = 0; ks < KSTEPS; ks++) {
        u32 a[4], bs[4];
        ldmatrix(a, a_at(tileK, warp * 16, ks * 16));
#pragma unroll
        for (int n = 0; n < 2; n++) {
          ldmatrix(bs, b_at(queries, half + n * 16, ks * 16));
          mma(score[2 * n], a, bs, T());
          mma(score[2 * n + 1], a, bs + 2, T());
        }
        ldmatrix(a, a_at(tileV, warp * 16, ks * 16));
#pragma unroll
        for (int n = 0; n < 2; n++) {
          ldmatrix(bs, b_at(grads, half + n * 16, ks * 16));
          mma(dP[2 * n], a, bs, T());
          mma(dP[2 * n + 1], a, bs + 2, T());
        }
      }
#pragma unroll
      for (int n = 0; n < 4; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int column = half + n * 8 + 2 * t + (e & 1);
          float p = exp2_fast(fmaf(score[n][e], c, -rowLse[stage * TILE + column]));
          if (masked && !may_attend(at + column, key0 + (e >> 1) * 8, s, segments)) p = 0.f;
          score[n][e] = p;
          dP[n][e] = s.scale * p * (dP[n][e] - rowDelta[stage * TILE + column]);
        }
#pragma unroll
      for (int ks = 0; ks < 2; ks++) {
        u32 a[4], d[4], bs[4];
#pragma unroll
        for (int e = 0; e < 2; e++) {
          a[2 * e] = pack2(score[2 * ks + e][0], score[2 * ks + e][1], T());
          a[2 * e + 1] = pack2(score[2 * ks + e][2], score[2 * ks + e][3], T());
          d[2 * e] = pack2(dP[2 * ks + e][0], dP[2 * ks + e][1], T());
          d[2 * e + 1] = pack2(dP[2 * ks + e][2], dP[2 * ks + e][3], T());
        }
#pragma unroll
        for (int n = 0; n < DTILES / 2; n++) {
          ldmatrix_transposed(bs, a_at(grads, half + ks * 16, n * 16));
          mma(sumV[2 * n], a, bs, T());
          mma(sumV[2 * n + 1], a, bs + 2, T());
          ldmatrix_transposed(bs, a_at(queries, half + ks * 16, n * 16));
          mma(sumK[2 * n], d, bs, T());
          mma(sumK[2 * n + 1], d, bs + 2, T());
        }
      }
    }
    __syncthreads();
  }
  store_rows(dK + baseK, tileK + warp * 16 * LD, sumK, 1.f, 1.f, first + warp * 16, s.tokens, strideK);
  store_rows(dV + baseK, tileV + warp * 16 * LD, sumV, 1.f, 1.f, first + warp * 16, s.tokens, strideK);
}

extern "C" __global__ void __launch_bounds__(THREADS) flashBackwardQ(T* dQ, const T* dO, const T* q, const T* k, const T* v, const float* lse, const float* delta, const int* segments, Shape s) {
  extern __shared__ uint4 memory[];
  T* tileQ = (T*)memory;
  T* tileO = tileQ + OWN * LD;
  T* tileK = tileO + OWN * LD;
  T* tileV = tileK + 2 * TILE * LD;
  const int block = gridDim.z - 1 - blockIdx.z, h = blockIdx.x, b = blockIdx.y;
  const int first = block * OWN, kv = h / (s.heads / s.kvHeads);
  const int strideQ = s.heads * D, strideK = s.kvHeads * D;
  const size_t baseQ = (size_t)b * s.tokens * strideQ + h * D, baseK = (size_t)b * s.tokens * strideK + kv * D;
  if (segments) segments += b * s.tokens;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int last = min(first + OWN, s.tokens) - 1;
  const int begin = s.window > 0 ? max(0, first - s.window + 1) / TILE : 0, end = last / TILE + 1;
  load_tile<OWN>(tileQ, q + baseQ, first, s.tokens, strideQ);
  load_tile<OWN>(tileO, dO + baseQ, first, s.tokens, strideQ);
  load_tile<TILE>(tileK, k + baseK, begin * TILE, s.tokens, strideK);
  load_tile<TILE>(tileV, v + baseK, begin * TILE, s.tokens, strideK);
  commit();
  float sum[DTILES][4] = {};
  const float c = s.scale * LOG2E;
  const int row0 = first + warp * 16 + g;
  float rowLse[2], rowDelta[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const bool inside = row0 + r * 8 < s.tokens;
    const size_t entry = ((size_t)b * s.heads + h) * s.tokens + row0 + r * 8;
    rowLse[r] = inside ? lse[entry] * LOG2E : 0.f;
    rowDelta[r] = inside ? delta[entry] : 0.f;
  }
  for (int j = begin; j < end; j++) {
    const int stage = (j - begin) & 1;
    if (j + 1 < end) {
      load_tile<TILE>(tileK + (stage ^ 1) * TILE * LD, k + baseK, (j + 1) * TILE, s.tokens, strideK);
      load_tile<TILE>(tileV + (stage ^ 1) * TILE * LD, v + baseK, (j + 1) * TILE, s.tokens, strideK);
    }
    commit();
    wait<1>();
    __syncthreads();
    const T* keys = tileK + stage * TILE * LD;
    const T* values = tileV + stage * TILE * LD;
    const bool masked = segments || !all_attend(first + warp * 16, 16, j * TILE, TILE, s);
#pragma unroll
    for (int half = 0; half < TILE; half += 32) {
      float score[4][4] = {}, dP[4][4] = {};
#pragma unroll
      for (int ks = 0; ks < KSTEPS; ks++) {
        u32 a[4], bs[4];
        ldmatrix(a, a_at(tileQ, warp * 16, ks * 16));
#pragma unroll
        for (int n = 0; n < 2; n++) {
          ldmatrix(bs, b_at(keys, half + n * 16, ks * 16));
          mma(score[2 * n], a, bs, T());
          mma(score[2 * n + 1], a, bs + 2, T());
        }
        ldmatrix(a, a_at(tileO, warp * 16, ks * 16));
#pragma unroll
        for (int n = 0; n < 2; n++) {
          ldmatrix(bs, b_at(values, half + n * 16, ks * 16));
          mma(dP[2 * n], a, bs, T());
          mma(dP[2 * n + 1], a, bs + 2, T());
        }
      }
#pragma unroll
      for (int n = 0; n < 4; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int column = j * TILE + half + n * 8 + 2 * t + (e & 1);
          float p = exp2_fast(fmaf(score[n][e], c, -rowLse[e >> 1]));
          if (masked && !may_attend(row0 + (e >> 1) * 8, column, s, segments)) p = 0.f;
          dP[n][e] = s.scale * p * (dP[n][e] - rowDelta[e >> 1]);
        }
#pragma unroll
      for (int ks = 0; ks < 2; ks++) {
        u32 d[4], bs[4];
#pragma unroll
        for (int e = 0; e < 2; e++) {
          d[2 * e] = pack2(dP[2 * ks + e][0], dP[2 * ks + e][1], T());
          d[2 * e + 1] = pack2(dP[2 * ks + e][2], dP[2 * ks + e][3], T());
        }
#pragma unroll
        for (int n = 0; n < DTILES / 2; n++) {
          ldmatrix_transposed(bs, a_at(keys, half + ks * 16, n * 16));
          mma(sum[2 * n], d, bs, T());
          mma(sum[2 * n + 1], d, bs + 2, T());
        }
      }
    }
    __syncthreads();
  }
  store_rows(dQ + baseQ, tileQ + warp * 16 * LD, sum, 1.f, 1.f, first + warp * 16, s.tokens, strideQ);
}
