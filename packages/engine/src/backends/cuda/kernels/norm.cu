// Compiled once per element type T. One block per row.
extern "C" __global__ void rmsNorm(T* y, float* invRms, const T* x, const T* weight, int width, float eps) {
  __shared__ float shared[32];
  const size_t row = (size_t)blockIdx.x * width;
  float squares = 0.f;
  if (width % Pack<T>::size == 0) {
    const Pack<T>* px = (const Pack<T>*)(x + row);
    for (int i = threadIdx.x; i < width / Pack<T>::size; i += blockDim.x) {
      const Pack<T> p = px[i];
      for (int k = 0; k < Pack<T>::size; k++) squares += to_f32(p.v[k]) * to_f32(p.v[k]);
    }
  } else {
    for (int i = threadIdx.x; i < width; i += blockDim.x) squares += to_f32(x[row + i]) * to_f32(x[row + i]);
  }
  const float r = rsqrtf(block_sum(squares, shared) / width + eps);
  if (threadIdx.x == 0) invRms[blockIdx.x] = r;
  if (width % Pack<T>::size == 0) {
    const Pack<T>* px = (const Pack<T>*)(x + row);
    const Pack<T>* pw = (const Pack<T>*)weight;
    for (int i = threadIdx.x; i < width / Pack<T>::size; i += blockDim.x) {
      Pack<T> p = px[i];
      const Pack<T> w = pw[i];
      for (int k = 0; k < Pack<T>::size; k++) p.v[k] = From<T>::f32(to_f32(p.v[k]) * r * to_f32(w.v[k]));
      ((Pack<T>*)(y + row))[i] = p;
    }
    return;
  }
  for (int i = threadIdx.x; i < width; i += blockDim.x) y[row + i] = From<T>::f32(to_f32(x[row + i]) * r * to_f32(weight[i]));
}

/** dx = r (g - x r^2 mean(g x)) with g = dy weight; plus `residual` where given (the other branch's gradient). */
extern "C" __global__ void rmsNormBackward(T* dx, const T* dy, const T* x, const T* weight, const float* invRms, const T* residual, int width) {
  __shared__ float shared[32];
  const size_t row = (size_t)blockIdx.x * width;
  const float r = invRms[blockIdx.x];
  const bool packed = width % Pack<T>::size == 0;
  float dot = 0.f;
  if (packed) {
    for (int i = threadIdx.x; i < width / Pack<T>::size; i += blockDim.x) {
      const Pack<T> d = ((const Pack<T>*)(dy + row))[i], p = ((const Pack<T>*)(x + row))[i], w = ((const Pack<T>*)weight)[i];
      for (int k = 0; k < Pack<T>::size; k++) dot += to_f32(d.v[k]) * to_f32(w.v[k]) * to_f32(p.v[k]);
    }
  } else {
    for (int i = threadIdx.x; i < width; i += blockDim.x) dot += to_f32(dy[row + i]) * to_f32(weight[i]) * to_f32(x[row + i]);
  }
  const float shrink = r * r * block_sum(dot, shared) / width;
  if (packed) {
    for (int i = threadIdx.x; i < width / Pack<T>::size; i += blockDim.x) {
      Pack<T> d = ((const Pack<T>*)(dy + row))[i];
      const Pack<T> p = ((const Pack<T>*)(x + row))[i], w = ((const Pack<T>*)weight)[i];
      Pack<T> other = p;
      if (residual) other = ((const Pack<T>*)(residual + row))[i];
      for (int k = 0; k < Pack<T>::size; k++) {
        const float v = r * (to_f32(d.v[k]) * to_f32(w.v[k]) - to_f32(p.v[k]) * shrink);
        d.v[k] = From<T>::f32(residual ? v + to_f32(other.v[k]) : v);
      }
      ((Pack<T>*)(dx + row))[i] = d;
    }
    return;
  }
  for (int i = threadIdx.x; i < width; i += blockDim.x) {
    const float v = r * (to_f32(dy[row + i]) * to_f32(weight[i]) - to_f32(x[row + i]) * shrink);
    dx[row + i] = From<T>::f32(residual ? v + to_f32(residual[row + i]) : v);
  }
}
