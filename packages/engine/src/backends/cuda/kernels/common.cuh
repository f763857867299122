// Shared by all kernels. No headers are included, so that NVRTC alone is enough to compile them.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

struct alignas(2) bf16 {
  u16 bits;
};
struct alignas(2) f16 {
  u16 bits;
};

__device__ __forceinline__ float to_f32(float x) { return x; }
__device__ __forceinline__ float to_f32(int x) { return (float)x; }
__device__ __forceinline__ float to_f32(u8 x) { return (float)x; }
__device__ __forceinline__ float to_f32(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
__device__ __forceinline__ float to_f32(f16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}

template <class T> struct From;
template <> struct From<float> {
  static __device__ __forceinline__ float f32(float x) { return x; }
};
template <> struct From<bf16> {
  static __device__ __forceinline__ bf16 f32(float x) {
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
  }
};
template <> struct From<f16> {
  static __device__ __forceinline__ f16 f32(float x) {
    f16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
  }
};
template <> struct From<int> {
  static __device__ __forceinline__ int f32(float x) { return (int)x; }
};
template <> struct From<u8> {
  static __device__ __forceinline__ u8 f32(float x) { return (u8)(int)x; }
};

/** Two floats as packed bf16 (or f16) bits, the first in the low half. */
__device__ __forceinline__ u32 pack2(float low, float high, bf16) {
  u32 y;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}
__device__ __forceinline__ u32 pack2(float low, float high, f16) {
  u32 y;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}

/** 16 bytes of elements: one memory access. */
template <class T> struct alignas(16) Pack {
  static constexpr int size = 16 / sizeof(T);
  T v[size];
};

__device__ __forceinline__ float warp_sum(float x) {
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
  for (int offset = 16; offset > 0; offset >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}

/** The sum over the block, the same in every thread and in every run. `shared` holds 32 floats. */
__device__ __forceinline__ float block_sum(float x, float* shared) {
  x = warp_sum(x);
  const int warps = (blockDim.x + 31) >> 5;
  __syncthreads();
  if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = x;
  __syncthreads();
  float total = 0.f;
  for (int w = 0; w < warps; w++) total += shared[w];
  return total;
}
__device__ __forceinline__ float block_max(float x, float* shared) {
  x = warp_max(x);
  const int warps = (blockDim.x + 31) >> 5;
  __syncthreads();
  if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = x;
  __syncthreads();
  float top = shared[0];
  for (int w = 1; w < warps; w++) top = fmaxf(top, shared[w]);
  return top;
}

/** Tensors in one grouped launch; the second grid axis is the row of the table. */
#define GROUP 32

__device__ __forceinline__ float sigmoid_of(float x) { return 1.f / (1.f + expf(-x)); }

/** bitsandbytes' NF4 levels (Dettmers et al. 2023). */
__device__ constexpr float NF4_LEVELS[16] = {
    -1.0f,                 -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f,  0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f,  0.5626170039176941f,  0.7229568362236023f,  1.0f};
