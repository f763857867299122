// Compiled once per element type T. One block per output element; fixed order, so equal bits in every run.
struct Reduction {
  int keptRank;
  int kept[6];
  int keptStrides[6];
  int rank;
  int reduced[6];
  int strides[6];
};

__device__ __forceinline__ int locate(int index, int rank, const int* shape, const int* strides) {
  int offset = 0;
  for (int axis = rank - 1; axis >= 0; axis--) {
    offset += (index % shape[axis]) * strides[axis];
    index /= shape[axis];
  }
  return offset;
}

extern "C" __global__ void sumOf(T* y, const T* x, int count, Reduction r) {
  __shared__ float shared[32];
  const int base = locate(blockIdx.x, r.keptRank, r.kept, r.keptStrides);
  float total = 0.f;
  for (int i = threadIdx.x; i < count; i += blockDim.x) total += to_f32(x[base + locate(i, r.rank, r.reduced, r.strides)]);
  total = block_sum(total, shared);
  if (threadIdx.x == 0) y[blockIdx.x] = From<T>::f32(total);
}

extern "C" __global__ void maxOf(T* y, const T* x, int count, Reduction r) {
  __shared__ float shared[32];
  const int base = locate(blockIdx.x, r.keptRank, r.kept, r.keptStrides);
  float top = -INFINITY;
  for (int i = threadIdx.x; i < count; i += blockDim.x) top = fmaxf(top, to_f32(x[base + locate(i, r.rank, r.reduced, r.strides)]));
  top = block_max(top, shared);
  if (threadIdx.x == 0) y[blockIdx.x] = From<T>::f32(top);
}

/** The square sum of each block's share; one block writes the result itself. */
extern "C" __global__ void sumSquares(float* partial, const T* x, int n) {
  __shared__ float shared[32];
  float total = 0.f;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const float v = to_f32(x[i]);
    total = fmaf(v, v, total);
  }
  total = block_sum(total, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

struct SquaresTable {
  struct {
    float* y;
    const T* x;
    long long n;
  } rows[GROUP];
};

/** One block per tensor. */
extern "C" __global__ void sumSquaresGroup(SquaresTable table) {
  __shared__ float shared[32];
  const T* x = table.rows[blockIdx.y].x;
  const int n = (int)table.rows[blockIdx.y].n;
  float total = 0.f;
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    const float v = to_f32(x[i]);
    total = fmaf(v, v, total);
  }
  total = block_sum(total, shared);
  if (threadIdx.x == 0) *table.rows[blockIdx.y].y = total;
}
