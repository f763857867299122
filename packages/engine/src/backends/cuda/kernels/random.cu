// Compiled once per element type T. The rule of ops/random.ts, bit for bit.
#define GOLDEN 0x9e3779b9u

__device__ __forceinline__ u32 mix32(u32 h) {
  h = (h ^ (h >> 16)) * 0x7feb352du;
  h = (h ^ (h >> 15)) * 0x846ca68bu;
  return h ^ (h >> 16);
}

extern "C" __global__ void dropout(T* y, const T* x, const int* seed, int n, u32 stream, u32 threshold, float keepScale) {
  const u32 key = mix32((u32)seed[0] + mix32((u32)seed[1] + stream * GOLDEN));
  const int start = (blockIdx.x * blockDim.x + threadIdx.x) * Pack<T>::size;
  if (start + Pack<T>::size <= n) {
    Pack<T> p = *(const Pack<T>*)(x + start);
    for (int k = 0; k < Pack<T>::size; k++) {
      const bool keep = mix32(((u32)(start + k) * GOLDEN) ^ key) >= threshold;
      p.v[k] = From<T>::f32(keep ? to_f32(p.v[k]) * keepScale : 0.f);
    }
    *(Pack<T>*)(y + start) = p;
    return;
  }
  for (int i = start; i < n; i++) {
    const bool keep = mix32(((u32)i * GOLDEN) ^ key) >= threshold;
    y[i] = From<T>::f32(keep ? to_f32(x[i]) * keepScale : 0.f);
  }
}
