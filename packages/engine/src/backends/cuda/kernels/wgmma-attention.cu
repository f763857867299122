// FlashAttention-2 (Dao 2023) on Hopper's warp-group products (wgmma): causal, grouped queries, sliding window, segments.
// Compiled once per element type T (bf16 or f16) and HEAD_DIM (64 or 128). One warp group owns 64 rows; all tiles are
// 64 rows in chunks of 64 columns, 128-byte rows swizzled as wgmma reads them, either way round. As in
// flash-attention.cu the backward pass is two kernels without atomics. Tiles that three blocks of a multiprocessor share
// are loaded as soon as their predecessor is read; the other blocks work in the meantime.
constexpr int D = HEAD_DIM;
constexpr int CHUNKS = D / 64;
constexpr int TILE = 64;
constexpr int CHUNK_BYTES = TILE * 128;
constexpr int TILE_BYTES = CHUNKS * CHUNK_BYTES;
constexpr int THREADS = 128;

#include "flash-common.cuh"

/** c = a b^T (+ c) for one k step: both operands in shared memory, k along their rows. */
__device__ __forceinline__ void wgmma(float* c, u64 a, u64 b, int keep, bf16) {
  asm volatile("{.reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 0, 0;}"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]), "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]), "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]) : "l"(a), "l"(b), "r"(keep));
}
__device__ __forceinline__ void wgmma_transposed(float* c, const u32* a, u64 b, bf16) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]), "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]), "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void wgmma(float* c, u64 a, u64 b, int keep, f16) {
  asm volatile("{.reg .pred p; setp.ne.b32 p, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, %33, p, 1, 1, 0, 0;}"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]), "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]), "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]) : "l"(a), "l"(b), "r"(keep));
}
__device__ __forceinline__ void wgmma_transposed(float* c, const u32* a, u64 b, f16) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]), "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]), "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> __device__ __forceinline__ void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }

/** A matrix descriptor: 128-byte swizzle, 1024 bytes between groups of eight rows. */
__device__ __forceinline__ u64 descriptor(u32 address) {
  return (u64)((address & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

/** c = A B^T over the head axis, for two tiles of 64 rows. */
__device__ __forceinline__ void product(float* c, u32 a, u32 b) {
#pragma unroll
  for (int ks = 0; ks < D / 16; ks++) {
    const u32 at = (ks / 4) * CHUNK_BYTES + (ks % 4) * 32;
    wgmma(c, descriptor(a + at), descriptor(b + at), ks > 0, T());
  }
}

/** c += P B for P [64, 64] in registers and a tile B of 64 rows. */
__device__ __forceinline__ void accumulate(float (*c)[32], const u32 (*p)[4], u32 b) {
#pragma unroll
  for (int ks = 0; ks < 4; ks++)
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++) wgmma_transposed(c[chunk], p[ks], descriptor(b + chunk * CHUNK_BYTES + ks * 2048), T());
}

/** Accumulators as the A operand of the next product. */
__device__ __forceinline__ void to_operand(u32 (*p)[4], const float* c) {
#pragma unroll
  for (int ks = 0; ks < 4; ks++)
#pragma unroll
    for (int e = 0; e < 4; e++) p[ks][e] = pack2(c[ks * 8 + e * 2], c[ks * 8 + e * 2 + 1], T());
}

/** Rows [first, first + 64) of one head into a swizzled tile; rows at and beyond `tokens` become zeros. */
__device__ __forceinline__ void load_tile(u32 to, const T* from, int first, int tokens, int stride) {
  for (int c = threadIdx.x; c < TILE * (D / 8); c += THREADS) {
    const int row = c / (D / 8), unit = c % (D / 8);
    const bool inside = first + row < tokens;
    const T* source = from + (size_t)(inside ? first + row : 0) * stride + unit * 8;
    const u32 at = to + (unit / 8) * CHUNK_BYTES + row * 128 + (((unit & 7) ^ (row & 7)) << 4);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(source), "r"(inside ? 16 : 0));
  }
}

/** Copies have landed, for every thread and for the tensor cores. */
template <int N> __device__ __forceinline__ void wait_tiles() {
  wait<N>();
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
}

/** Writes a warp's 16 x D accumulators through its part of a tile, so that global stores are 16 bytes wide. */
__device__ __forceinline__ void store_rows(T* to, u8* tile, float (*c)[32], float low, float high, int first, int tokens, int stride) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  u8* staging = tile + warp * 16 * D * 2;
#pragma unroll
  for (int n = 0; n < D / 8; n++) {
    const float* v = c[n / 8] + (n % 8) * 4;
    *(u32*)(staging + g * D * 2 + ((n ^ g) << 4) + t * 4) = pack2(v[0] * low, v[1] * low, T());
    *(u32*)(staging + (g + 8) * D * 2 + ((n ^ g) << 4) + t * 4) = pack2(v[2] * high, v[3] * high, T());
  }
  __syncwarp();
  for (int i = lane; i < 16 * (D / 8); i += 32) {
    const int row = i / (D / 8), unit = i % (D / 8), token = first + warp * 16 + row;
    if (token < tokens) *(uint4*)(to + (size_t)token * stride + unit * 8) = *(uint4*)(staging + row * D * 2 + ((unit ^ (row & 7)) << 4));
  }
}

/** The dynamic shared memory from its first multiple of 1024. */
__device__ __forceinline__ u8* tiles_of(uint4* memory) {
  const u32 address = shared_address(memory);
  return (u8*)memory + (((address + 1023) & ~1023u) - address);
}

extern "C" __global__ void __launch_bounds__(THREADS, 3) flashForward(T* o, float* lse, const T* q, const T* k, const T* v, const int* segments, Shape s) {
  extern __shared__ uint4 memory[];
  u8* base = tiles_of(memory);
  const u32 tileQ = shared_address(base), tileK = tileQ + TILE_BYTES, tileV = tileK + TILE_BYTES;
  const int block = gridDim.z - 1 - blockIdx.z, h = blockIdx.x, b = blockIdx.y;
  const int first = block * TILE, kv = h / (s.heads / s.kvHeads);
  const int strideQ = s.heads * D, strideK = s.kvHeads * D;
  q += (size_t)b * s.tokens * strideQ + h * D;
  o += (size_t)b * s.tokens * strideQ + h * D;
  k += (size_t)b * s.tokens * strideK + kv * D;
  v += (size_t)b * s.tokens * strideK + kv * D;
  if (segments) segments += b * s.tokens;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int last = min(first + TILE, s.tokens) - 1;
  const int begin = s.window > 0 ? max(0, first - s.window + 1) / TILE : 0, end = last / TILE + 1;
  load_tile(tileQ, q, first, s.tokens, strideQ);
  load_tile(tileK, k, begin * TILE, s.tokens, strideK);
  commit();
  load_tile(tileV, v, begin * TILE, s.tokens, strideK);
  commit();
  float acc[CHUNKS][32] = {};
  float top[2] = {-INFINITY, -INFINITY}, total[2] = {0.f, 0.f};
  const float c = s.scale * LOG2E;
  const int row0 = first + warp * 16 + g;
  for (int j = begin; j < end; j++) {
    wait_tiles<1>();
    float score[32];
    wgmma_fence();
    product(score, tileQ, tileK);
    wgmma_commit();
    wgmma_wait<0>();
    __syncthreads();
    if (j + 1 < end) load_tile(tileK, k, (j + 1) * TILE, s.tokens, strideK);
    commit();
    if (segments || !all_attend(first + warp * 16, 16, j * TILE, TILE, s)) {
#pragma unroll
      for (int i = 0; i < 32; i++) {
        const int column = j * TILE + (i >> 2) * 8 + 2 * t + (i & 1);
        if (!may_attend(row0 + ((i >> 1) & 1) * 8, column, s, segments)) score[i] = -INFINITY;
      }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float best = top[r];
#pragma unroll
      for (int n = 0; n < 8; n++) best = fmaxf(best, fmaxf(score[n * 4 + 2 * r], score[n * 4 + 2 * r + 1]));
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 1));
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 2));
      const float base2 = best == -INFINITY ? 0.f : best * c;
      const float shrink = exp2_fast(top[r] * c - base2);
      top[r] = best;
      float sum = 0.f;
#pragma unroll
      for (int n = 0; n < 8; n++)
#pragma unroll
        for (int e = 2 * r; e < 2 * r + 2; e++) {
          score[n * 4 + e] = exp2_fast(fmaf(score[n * 4 + e], c, -base2));
          sum += score[n * 4 + e];
        }
      total[r] = total[r] * shrink + sum;
#pragma unroll
      for (int chunk = 0; chunk < CHUNKS; chunk++)
#pragma unroll
        for (int n = 0; n < 8; n++) {
          acc[chunk][n * 4 + 2 * r] *= shrink;
          acc[chunk][n * 4 + 2 * r + 1] *= shrink;
        }
    }
    u32 p[4][4];
    to_operand(p, score);
    wait_tiles<1>();
    wgmma_fence();
    accumulate(acc, p, tileV);
    wgmma_commit();
    wgmma_wait<0>();
    __syncthreads();
    if (j + 1 < end) load_tile(tileV, v, (j + 1) * TILE, s.tokens, strideK);
    commit();
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
  store_rows(o, base, acc, inverse[0], inverse[1], first, s.tokens, strideQ);
}

extern "C" __global__ void __launch_bounds__(THREADS) flashBackwardKV(T* dK, T* dV, const T* dO, const T* q, const T* k, const T* v, const float* lse, const float* delta, const int* segments, Shape s) {
  extern __shared__ uint4 memory[];
  u8* base = tiles_of(memory);
  const u32 tileK = shared_address(base), tileV = tileK + TILE_BYTES, tileQ = tileV + TILE_BYTES, tileO = tileQ + 2 * TILE_BYTES;
  float* rowLse = (float*)(base + 6 * TILE_BYTES);
  float* rowDelta = rowLse + 2 * TILE;
  const int kv = blockIdx.x, b = blockIdx.y, first = blockIdx.z * TILE;
  const int group = s.heads / s.kvHeads, strideQ = s.heads * D, strideK = s.kvHeads * D;
  const size_t baseQ = (size_t)b * s.tokens * strideQ, baseK = (size_t)b * s.tokens * strideK + kv * D;
  if (segments) segments += b * s.tokens;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int begin = first / TILE;
  const int lastQ = s.window > 0 ? min(s.tokens, first + TILE + s.window - 1) : s.tokens;
  const int tiles = (lastQ - 1) / TILE + 1 - begin, count = tiles * group;
  auto fetch = [&](int index) {
    const int h = kv * group + index / tiles, at = (begin + index % tiles) * TILE, stage = index & 1;
    load_tile(tileQ + stage * TILE_BYTES, q + baseQ + h * D, at, s.tokens, strideQ);
    load_tile(tileO + stage * TILE_BYTES, dO + baseQ + h * D, at, s.tokens, strideQ);
    for (int i = threadIdx.x; i < TILE; i += THREADS) {
      const bool inside = at + i < s.tokens;
      const size_t entry = ((size_t)b * s.heads + h) * s.tokens + at + i;
      rowLse[stage * TILE + i] = inside ? lse[entry] * LOG2E : 0.f;
      rowDelta[stage * TILE + i] = inside ? delta[entry] : 0.f;
    }
  };
  load_tile(tileK, k + baseK, first, s.tokens, strideK);
  load_tile(tileV, v + baseK, first, s.tokens, strideK);
  fetch(0);
  commit();
  float sumK[CHUNKS][32] = {}, sumV[CHUNKS][32] = {};
  const float c = s.scale * LOG2E;
  const int key0 = first + warp * 16 + g;
  for (int index = 0; index < count; index++) {
    const int stage = index & 1, at = (begin + index % tiles) * TILE;
    if (index + 1 < count) fetch(index + 1);
    commit();
    wait_tiles<1>();
    const u32 queries = tileQ + stage * TILE_BYTES, grads = tileO + stage * TILE_BYTES;
    float score[32], dP[32];
    wgmma_fence();
    product(score, tileK, queries);
    wgmma_commit();
    product(dP, tileV, grads);
    wgmma_commit();
    wgmma_wait<1>();
    const bool masked = segments || !all_attend(at, TILE, first + warp * 16, 16, s);
    u32 p[4][4], d[4][4];
#pragma unroll
    for (int i = 0; i < 32; i++) {
      const int column = (i >> 2) * 8 + 2 * t + (i & 1);
      score[i] = exp2_fast(fmaf(score[i], c, -rowLse[stage * TILE + column]));
      if (masked && !may_attend(at + column, key0 + ((i >> 1) & 1) * 8, s, segments)) score[i] = 0.f;
    }
    to_operand(p, score);
    wgmma_wait<0>();
    wgmma_fence();
    accumulate(sumV, p, grads);
    wgmma_commit();
#pragma unroll
    for (int i = 0; i < 32; i++) {
      const int column = (i >> 2) * 8 + 2 * t + (i & 1);
      dP[i] = s.scale * score[i] * (dP[i] - rowDelta[stage * TILE + column]);
    }
    to_operand(d, dP);
    wgmma_fence();
    accumulate(sumK, d, queries);
    wgmma_commit();
    wgmma_wait<0>();
    __syncthreads();
  }
  store_rows(dK + baseK, base, sumK, 1.f, 1.f, first, s.tokens, strideK);
  store_rows(dV + baseK, base + TILE_BYTES, sumV, 1.f, 1.f, first, s.tokens, strideK);
}

extern "C" __global__ void __launch_bounds__(THREADS, 3) flashBackwardQ(T* dQ, const T* dO, const T* q, const T* k, const T* v, const float* lse, const float* delta, const int* segments, Shape s) {
  extern __shared__ uint4 memory[];
  u8* base = tiles_of(memory);
  const u32 tileQ = shared_address(base), tileO = tileQ + TILE_BYTES, tileK = tileO + TILE_BYTES, tileV = tileK + TILE_BYTES;
  const int block = gridDim.z - 1 - blockIdx.z, h = blockIdx.x, b = blockIdx.y;
  const int first = block * TILE, kv = h / (s.heads / s.kvHeads);
  const int strideQ = s.heads * D, strideK = s.kvHeads * D;
  const size_t baseQ = (size_t)b * s.tokens * strideQ + h * D, baseK = (size_t)b * s.tokens * strideK + kv * D;
  if (segments) segments += b * s.tokens;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int last = min(first + TILE, s.tokens) - 1;
  const int begin = s.window > 0 ? max(0, first - s.window + 1) / TILE : 0, end = last / TILE + 1;
  load_tile(tileQ, q + baseQ, first, s.tokens, strideQ);
  load_tile(tileO, dO + baseQ, first, s.tokens, strideQ);
  load_tile(tileK, k + baseK, begin * TILE, s.tokens, strideK);
  load_tile(tileV, v + baseK, begin * TILE, s.tokens, strideK);
  commit();
  float sum[CHUNKS][32] = {};
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
    wait_tiles<0>();
    float score[32], dP[32];
    wgmma_fence();
    product(score, tileQ, tileK);
    wgmma_commit();
    product(dP, tileO, tileV);
    wgmma_commit();
    wgmma_wait<0>();
    __syncthreads();
    if (j + 1 < end) load_tile(tileV, v + baseK, (j + 1) * TILE, s.tokens, strideK);
    commit();
    const bool masked = segments || !all_attend(first + warp * 16, 16, j * TILE, TILE, s);
#pragma unroll
    for (int i = 0; i < 32; i++) {
      const int r = (i >> 1) & 1, column = j * TILE + (i >> 2) * 8 + 2 * t + (i & 1);
      float p = exp2_fast(fmaf(score[i], c, -rowLse[r]));
      if (masked && !may_attend(row0 + r * 8, column, s, segments)) p = 0.f;
      dP[i] = s.scale * p * (dP[i] - rowDelta[r]);
    }
    u32 d[4][4];
    to_operand(d, dP);
    wgmma_fence();
    accumulate(sum, d, tileK);
    wgmma_commit();
    wgmma_wait<0>();
    __syncthreads();
    if (j + 1 < end) load_tile(tileK, k + baseK, (j + 1) * TILE, s.tokens, strideK);
    commit();
  }
  store_rows(dQ + baseQ, base, sum, 1.f, 1.f, first, s.tokens, strideQ);
}
