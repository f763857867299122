// y = alpha x W^T + add for up to eight rows of x and an NF4 W[n, k] in blocks of 64 or more, k a multiple of 64, on
// mma.sync: eight rows cost what one costs. Compiled once per 16-bit element type T. A block computes 16 outputs of all
// rows; its warps share the k axis and add their parts in a fixed order. A table in shared memory, one copy per lane so
// that no two lanes meet in a bank, turns a byte into its two levels; scales are applied to the sums of a block of 64.
#define WARPS 8
#define SPAN 4  // blocks of 64 that a warp loads at once

#include "adapter.cuh"

__device__ __forceinline__ void mma(float* c, const u32* a, const u32* b, bf16) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma(float* c, const u32* a, const u32* b, f16) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/** The codes and scales of two rows of W over SPAN blocks: 16 codes of each row and block are this lane's. */
struct Codes {
  uint2 words[SPAN][2];
  float scales[SPAN][2];
};

__device__ __forceinline__ void load_codes(Codes& to, const u8* codes, const float* absmax, const size_t* rows, int first, int blocks, int blockShift, int quarter) {
#pragma unroll
  for (int u = 0; u < SPAN; u++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      to.words[u][r] = make_uint2(0, 0);
      to.scales[u][r] = 0.f;
      if (first + u >= blocks) continue;
      const size_t element = rows[r] + (size_t)(first + u) * 64;
      to.words[u][r] = __ldcs((const uint2*)(codes + (element >> 1)) + quarter);
      to.scales[u][r] = __ldg(absmax + (element >> blockShift));
    }
}

extern "C" __global__ void __launch_bounds__(WARPS * 32, 4) nf4Matvec(T* y, const T* x, const u8* codes, const float* absmax, const T* add, int rows, int n, int k, int blockShift, float alpha, const T* lowX, const T* lowWeight, int rank, int pitch, float lowAlpha) {
  __shared__ u32 table[256 * 32];
  __shared__ float parts[WARPS][16][8];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int column = blockIdx.x * 16, blocks = k / 64;
  const size_t mine[2] = {(size_t)min(column + g, n - 1) * k, (size_t)min(column + g + 8, n - 1) * k};
  Codes next;
  load_codes(next, codes, absmax, mine, warp * SPAN, blocks, blockShift, t);
  const int c = threadIdx.x & 15, row = threadIdx.x >> 4;
  const bool isOutput = row < rows && column + c < n;
  const float extra = isOutput ? Adapter{lowX, lowWeight, rank, pitch, lowAlpha}.at(row, column + c) : 0.f;
  for (int byte = warp; byte < 256; byte += WARPS) table[byte * 32 + lane] = pack2(NF4_LEVELS[byte >> 4], NF4_LEVELS[byte & 15], T());
  __syncthreads();
  float total[4] = {};
  for (int first = warp * SPAN; first < blocks; first += WARPS * SPAN) {
    const Codes now = next;
    load_codes(next, codes, absmax, mine, first + WARPS * SPAN, blocks, blockShift, t);
#pragma unroll
    for (int u = 0; u < SPAN; u++) {
      u32 values[8] = {};
      if (g < rows && first + u < blocks) {
        const uint4* from = (const uint4*)(x + (size_t)g * k + (first + u) * 64 + t * 16);
        *(uint4*)values = __ldg(from);
        *(uint4*)(values + 4) = __ldg(from + 1);
      }
      float sum[4] = {};
#pragma unroll
      for (int i = 0; i < 4; i++) {
        u32 a[4];
#pragma unroll
        for (int r = 0; r < 2; r++) {
          const u32 pair = (i < 2 ? now.words[u][r].x : now.words[u][r].y) >> ((i & 1) * 16);
          a[r] = table[(pair & 255) * 32 + lane];
          a[r + 2] = table[(pair >> 8 & 255) * 32 + lane];
        }
        mma(sum, a, values + 2 * i, T());
      }
      total[0] = fmaf(sum[0], now.scales[u][0], total[0]);
      total[1] = fmaf(sum[1], now.scales[u][0], total[1]);
      total[2] = fmaf(sum[2], now.scales[u][1], total[2]);
      total[3] = fmaf(sum[3], now.scales[u][1], total[3]);
    }
  }
  parts[warp][g][2 * t] = total[0];
  parts[warp][g][2 * t + 1] = total[1];
  parts[warp][g + 8][2 * t] = total[2];
  parts[warp][g + 8][2 * t + 1] = total[3];
  __syncthreads();
  if (!isOutput) return;
  float value = 0.f;
  for (int w = 0; w < WARPS; w++) value += parts[w][c][row];
  const size_t at = (size_t)row * n + column + c;
  y[at] = From<T>::f32(alpha * value + extra + (add ? to_f32(add[at]) : 0.f));
}
