// Compiled once per element type T.
__device__ __forceinline__ float gate_of(float g, float u) { return g * sigmoid_of(g) * u; }

extern "C" __global__ void swiglu(T* y, const T* gate, const T* up, int n) {
  const int start = (blockIdx.x * blockDim.x + threadIdx.x) * Pack<T>::size;
  if (start + Pack<T>::size <= n) {
    Pack<T> g = *(const Pack<T>*)(gate + start);
    const Pack<T> u = *(const Pack<T>*)(up + start);
    for (int k = 0; k < Pack<T>::size; k++) g.v[k] = From<T>::f32(gate_of(to_f32(g.v[k]), to_f32(u.v[k])));
    *(Pack<T>*)(y + start) = g;
    return;
  }
  for (int i = start; i < n; i++) y[i] = From<T>::f32(gate_of(to_f32(gate[i]), to_f32(up[i])));
}

/** Outputs may overwrite inputs: every element is read before it is written. */
extern "C" __global__ void swigluBackward(T* dGate, T* dUp, const T* dy, const T* gate, const T* up, int n) {
  const int start = (blockIdx.x * blockDim.x + threadIdx.x) * Pack<T>::size;
  if (start + Pack<T>::size <= n) {
    const Pack<T> d = *(const Pack<T>*)(dy + start);
    Pack<T> g = *(const Pack<T>*)(gate + start), u = *(const Pack<T>*)(up + start);
    for (int k = 0; k < Pack<T>::size; k++) {
      const float x = to_f32(g.v[k]), s = sigmoid_of(x), dv = to_f32(d.v[k]);
      g.v[k] = From<T>::f32(dv * to_f32(u.v[k]) * s * (1.f + x * (1.f - s)));
      u.v[k] = From<T>::f32(dv * x * s);
    }
    *(Pack<T>*)(dGate + start) = g;
    *(Pack<T>*)(dUp + start) = u;
    return;
  }
  for (int i = start; i < n; i++) {
    const float x = to_f32(gate[i]), s = sigmoid_of(x), dv = to_f32(dy[i]), u = to_f32(up[i]);
    dGate[i] = From<T>::f32(dv * u * s * (1.f + x * (1.f - s)));
    dUp[i] = From<T>::f32(dv * x * s);
  }
}
