// Compiled once per element type T.
extern "C" __global__ void embedding(T* y, const T* table, const int* ids, int width) {
  const T* from = table + (size_t)ids[blockIdx.x] * width;
  T* to = y + (size_t)blockIdx.x * width;
  if (width % Pack<T>::size == 0) {
    for (int i = threadIdx.x; i < width / Pack<T>::size; i += blockDim.x) ((Pack<T>*)to)[i] = ((const Pack<T>*)from)[i];
    return;
  }
  for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = from[i];
}

/** One block per table row, adding its tokens in their order: no atomics. */
extern "C" __global__ void embeddingBackward(T* dTable, const T* dy, const int* ids, int count, int width) {
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    float total = 0.f;
    for (int token = 0; token < count; token++) {
      if (ids[token] == blockIdx.x) total += to_f32(dy[(size_t)token * width + i]);
    }
    dTable[(size_t)blockIdx.x * width + i] = From<T>::f32(total);
  }
}
