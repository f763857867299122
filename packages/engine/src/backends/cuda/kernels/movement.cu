// Compiled once per element width: T is u8, u16 or u32.
struct Strides {
  int rank;
  int shape[6];
  int from[6];
};

/** y[index] = x[index * from]: transposes, broadcasts and slices (x already points at the first element). */
extern "C" __global__ void gather(T* y, const T* x, int n, Strides s) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int index = i, offset = 0;
  for (int axis = s.rank - 1; axis >= 0; axis--) {
    offset += (index % s.shape[axis]) * s.from[axis];
    index /= s.shape[axis];
  }
  y[i] = x[offset];
}

/** Copies a part into rows of a wider output: y[o * stride + start + i] = x[o * width + i]. */
extern "C" __global__ void place(T* y, const T* x, int n, int width, int stride, int start) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[(i / width) * stride + start + i % width] = x[i];
}

/** Row s of sequence b of rows[batch, count, width] goes to cache[index[b] + s, b]. */
extern "C" __global__ void append(T* cache, const T* rows, const int* index, int n, int batch, int count, int width, int capacity) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int column = i % width, row = i / width;
  const int b = row / count, at = index[b] + row % count;
  if (at >= 0 && at < capacity) cache[((size_t)at * batch + b) * width + column] = rows[i];
}
