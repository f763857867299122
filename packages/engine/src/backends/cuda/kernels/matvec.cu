// y = alpha x W^T + add for few rows of x: decoding reads each weight once. Compiled once per element type T and ROWS.
// The four warps of a block share the k axis of COLUMNS outputs and add their parts in a fixed order. An adapter's product
// with a narrow x may be added.
#define COLUMNS 4
#define WARPS 4

#include "adapter.cuh"

/** The adapter's part of the output that this thread writes. */
__device__ __forceinline__ float adapter_part(const Adapter& adapter, int column, int n) {
  const int c = threadIdx.x / ROWS;
  return threadIdx.x < COLUMNS * ROWS && column + c < n ? adapter.at(threadIdx.x % ROWS, column + c) : 0.f;
}

/** Adds up the lanes and warps and writes the block's outputs of every row. */
__device__ __forceinline__ void finish(T* y, const T* add, float (*total)[ROWS], int column, int n, float alpha, float extra) {
  __shared__ float parts[WARPS][COLUMNS * ROWS];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int c = 0; c < COLUMNS; c++)
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const float value = warp_sum(total[c][r]);
      if (lane == 0) parts[warp][c * ROWS + r] = value;
    }
  __syncthreads();
  if (threadIdx.x >= COLUMNS * ROWS) return;
  const int c = threadIdx.x / ROWS, r = threadIdx.x % ROWS;
  if (column + c >= n) return;
  float value = 0.f;
  for (int w = 0; w < WARPS; w++) value += parts[w][threadIdx.x];
  const size_t at = (size_t)r * n + column + c;
  y[at] = From<T>::f32(alpha * value + extra + (add ? to_f32(add[at]) : 0.f));
}

__device__ __forceinline__ void load8(T* v, const T* from) {
  if constexpr (sizeof(T) == 2) {
    *(uint4*)v = __ldg((const uint4*)from);
  } else {
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = from[i];
  }
}

/** An NF4 W[n, k], k a multiple of 32. */
extern "C" __global__ void __launch_bounds__(WARPS * 32) matvec(T* y, const T* x, const u8* codes, const float* absmax, const T* add, int n, int k, int blockShift, float alpha, const T* lowX, const T* lowWeight, int rank, int pitch, float lowAlpha) {
  __shared__ float levels[16];
  if (threadIdx.x < 16) levels[threadIdx.x] = NF4_LEVELS[threadIdx.x];
  __syncthreads();
  const int column = blockIdx.x * COLUMNS;
  const float extra = adapter_part({lowX, lowWeight, rank, pitch, lowAlpha}, column, n);
  float total[COLUMNS][ROWS] = {};
  for (int at = threadIdx.x * 32; at < k; at += WARPS * 1024) {
    uint4 words[COLUMNS];
    float scale[COLUMNS];
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
      const size_t element = (size_t)min(column + c, n - 1) * k + at;
      words[c] = __ldcs((const uint4*)(codes + (element >> 1)));
      scale[c] = __ldg(absmax + (element >> blockShift));
    }
    float partial[COLUMNS][ROWS] = {};
#pragma unroll
    for (int part = 0; part < 4; part++) {
      T v[ROWS][8];
#pragma unroll
      for (int r = 0; r < ROWS; r++) load8(v[r], x + (size_t)r * k + at + part * 8);
#pragma unroll
      for (int c = 0; c < COLUMNS; c++) {
        const u32 word = part == 0 ? words[c].x : part == 1 ? words[c].y : part == 2 ? words[c].z : words[c].w;
#pragma unroll
        for (int i = 0; i < 8; i++) {
          const float w = levels[(word >> ((i >> 1) * 8 + ((i & 1) ? 0 : 4))) & 15];
#pragma unroll
          for (int r = 0; r < ROWS; r++) partial[c][r] = fmaf(to_f32(v[r][i]), w, partial[c][r]);
        }
      }
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++)
#pragma unroll
      for (int r = 0; r < ROWS; r++) total[c][r] = fmaf(partial[c][r], scale[c], total[c][r]);
  }
  finish(y, add, total, column, n, alpha, extra);
}

/** A dense W[n, k] of type T, k a multiple of 8. */
extern "C" __global__ void __launch_bounds__(WARPS * 32) matvecDense(T* y, const T* x, const T* weight, const T* add, int n, int k, float alpha, const T* lowX, const T* lowWeight, int rank, int pitch, float lowAlpha) {
  const int column = blockIdx.x * COLUMNS;
  const float extra = adapter_part({lowX, lowWeight, rank, pitch, lowAlpha}, column, n);
  float total[COLUMNS][ROWS] = {};
#pragma unroll 2
  for (int at = threadIdx.x * 8; at < k; at += WARPS * 256) {
    T w[COLUMNS][8];
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) load8(w[c], weight + (size_t)min(column + c, n - 1) * k + at);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      T v[8];
      load8(v, x + (size_t)r * k + at);
#pragma unroll
      for (int i = 0; i < 8; i++)
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) total[c][r] = fmaf(to_f32(v[i]), to_f32(w[c][i]), total[c][r]);
    }
  }
  finish(y, add, total, column, n, alpha, extra);
}
