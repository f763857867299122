// y = alpha x W^T + add for an NF4 W[n, k], k a multiple of 32, and ROWS rows of x: decoding reads each weight once.
// Compiled once per element type T and ROWS. Each warp computes COLUMNS outputs of every row.
#define COLUMNS 2
#define WARPS 4

extern "C" __global__ void __launch_bounds__(WARPS * 32) matvec(T* y, const T* x, const u8* codes, const float* absmax, const T* add, int n, int k, int blockShift, float alpha) {
  __shared__ float levels[16];
  if (threadIdx.x < 16) levels[threadIdx.x] = NF4_LEVELS[threadIdx.x];
  __syncthreads();
  const int lane = threadIdx.x & 31;
  const int column = (blockIdx.x * WARPS + (threadIdx.x >> 5)) * COLUMNS;
  if (column >= n) return;
  float total[COLUMNS][ROWS];
#pragma unroll
  for (int c = 0; c < COLUMNS; c++)
#pragma unroll
    for (int r = 0; r < ROWS; r++) total[c][r] = 0.f;
#pragma unroll 2
  for (int at = lane * 32; at < k; at += 1024) {
    uint4 words[COLUMNS];
    float scale[COLUMNS];
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
      const size_t element = (size_t)min(column + c, n - 1) * k + at;
      words[c] = __ldcs((const uint4*)(codes + (element >> 1)));
      scale[c] = __ldg(absmax + (element >> blockShift));
    }
    float partial[COLUMNS][ROWS];
#pragma unroll
    for (int c = 0; c < COLUMNS; c++)
#pragma unroll
      for (int r = 0; r < ROWS; r++) partial[c][r] = 0.f;
#pragma unroll
    for (int part = 0; part < 4; part++) {
      float w[COLUMNS][8];
#pragma unroll
      for (int c = 0; c < COLUMNS; c++) {
        const u32 word = part == 0 ? words[c].x : part == 1 ? words[c].y : part == 2 ? words[c].z : words[c].w;
#pragma unroll
        for (int i = 0; i < 8; i++) w[c][i] = levels[(word >> ((i >> 1) * 8 + ((i & 1) ? 0 : 4))) & 15];
      }
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        const T* from = x + (size_t)r * k + at + part * 8;
        T v[8];
        if constexpr (sizeof(T) == 2) {
          *(uint4*)v = __ldg((const uint4*)from);
        } else {
          for (int i = 0; i < 8; i++) v[i] = from[i];
        }
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
          for (int c = 0; c < COLUMNS; c++) partial[c][r] = fmaf(to_f32(v[i]), w[c][i], partial[c][r]);
      }
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++)
#pragma unroll
      for (int r = 0; r < ROWS; r++) total[c][r] = fmaf(partial[c][r], scale[c], total[c][r]);
  }
#pragma unroll
  for (int c = 0; c < COLUMNS; c++) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const float value = alpha * warp_sum(total[c][r]);
      const size_t at = (size_t)r * n + column + c;
      if (lane == 0 && column + c < n) y[at] = From<T>::f32(value + (add ? to_f32(add[at]) : 0.f));
    }
  }
}
