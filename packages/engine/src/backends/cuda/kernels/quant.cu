// Compiled once per output type T.
template <class U> __device__ __forceinline__ void store8(U* to, const float* v) {
  if constexpr (sizeof(U) == 2) {
    uint4 out;
    out.x = pack2(v[0], v[1], U());
    out.y = pack2(v[2], v[3], U());
    out.z = pack2(v[4], v[5], U());
    out.w = pack2(v[6], v[7], U());
    *(uint4*)to = out;
  } else {
    for (int k = 0; k < 8; k++) to[k] = From<U>::f32(v[k]);
  }
}

/** y[i] = level[code] * absmax of its block. Eight elements per thread: one 4-byte load, 16-byte stores. */
extern "C" __global__ void dequantize(T* y, const u8* codes, const float* absmax, int n, int blockShift) {
  __shared__ float levels[16];
  if (threadIdx.x < 16) levels[threadIdx.x] = NF4_LEVELS[threadIdx.x];
  __syncthreads();
  const int packs = n >> 3;
  const int step = gridDim.x * blockDim.x;
  for (int first = blockIdx.x * blockDim.x + threadIdx.x; first < packs; first += step * 4) {
    u32 word[4];
    float scale[4];
#pragma unroll
    for (int u = 0; u < 4; u++) {
      const int i = first + u * step;
      if (i < packs) {
        word[u] = __ldcs((const u32*)codes + i);
        scale[u] = __ldg(absmax + ((i << 3) >> blockShift));
      }
    }
#pragma unroll
    for (int u = 0; u < 4; u++) {
      const int i = first + u * step;
      if (i >= packs) break;
      float v[8];
#pragma unroll
      for (int k = 0; k < 8; k++) v[k] = levels[(word[u] >> ((k >> 1) * 8 + ((k & 1) ? 0 : 4))) & 15] * scale[u];
      store8(y + (size_t)i * 8, v);
    }
  }
  // The tail of a tensor whose size is not a multiple of eight.
  if (blockIdx.x == 0 && threadIdx.x < (n & 7)) {
    const int i = (n & ~7) + threadIdx.x;
    y[i] = From<T>::f32(levels[(codes[i >> 1] >> ((i & 1) ? 0 : 4)) & 15] * absmax[i >> blockShift]);
  }
}
