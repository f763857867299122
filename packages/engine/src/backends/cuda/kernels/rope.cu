// Compiled once per element type T. Each thread rotates the pairs (i, i + half) of one pack, so y may be x.
extern "C" __global__ void rope(T* y, const T* x, const int* positions, const float* cosines, const float* sines, int pairs, int heads, int half, float sign) {
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (half % Pack<T>::size == 0) {
    const int packs = half / Pack<T>::size;
    if (index >= pairs / Pack<T>::size) return;
    const int row = index / packs, i = (index % packs) * Pack<T>::size;
    const size_t at = (size_t)row * 2 * half + i;
    const size_t entry = (size_t)positions[row / heads] * half + i;
    Pack<T> a = *(const Pack<T>*)(x + at), b = *(const Pack<T>*)(x + at + half);
    for (int k = 0; k < Pack<T>::size; k++) {
      const float c = cosines[entry + k], s = sign * sines[entry + k];
      const float p = to_f32(a.v[k]), q = to_f32(b.v[k]);
      a.v[k] = From<T>::f32(p * c - q * s);
      b.v[k] = From<T>::f32(q * c + p * s);
    }
    *(Pack<T>*)(y + at) = a;
    *(Pack<T>*)(y + at + half) = b;
    return;
  }
  if (index >= pairs) return;
  const int row = index / half, i = index % half;
  const size_t at = (size_t)row * 2 * half + i;
  const size_t entry = (size_t)positions[row / heads] * half + i;
  const float c = cosines[entry], s = sign * sines[entry];
  const float p = to_f32(x[at]), q = to_f32(x[at + half]);
  y[at] = From<T>::f32(p * c - q * s);
  y[at + half] = From<T>::f32(q * c + p * s);
}
