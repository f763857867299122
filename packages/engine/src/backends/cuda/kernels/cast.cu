// Compiled once per pair of element types TIN, TOUT.
extern "C" __global__ void cast(TOUT* y, const TIN* x, int n) {
  const int start = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  for (int i = start; i < n && i < start + 4; i++) y[i] = From<TOUT>::f32(to_f32(x[i]));
}

extern "C" __global__ void castToBool(u8* y, const TIN* x, int n) {
  const int start = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  for (int i = start; i < n && i < start + 4; i++) y[i] = to_f32(x[i]) != 0.f ? 1 : 0;
}

extern "C" __global__ void full(TOUT* y, int n, float value) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = From<TOUT>::f32(value);
}

struct CastTable {
  struct {
    TOUT* y;
    const TIN* x;
    long long n;
  } rows[GROUP];
};

extern "C" __global__ void castGroup(CastTable table) {
  const int start = (blockIdx.x * blockDim.x + threadIdx.x) * 4, n = (int)table.rows[blockIdx.y].n;
  TOUT* y = table.rows[blockIdx.y].y;
  const TIN* x = table.rows[blockIdx.y].x;
  for (int i = start; i < n && i < start + 4; i++) y[i] = From<TOUT>::f32(to_f32(x[i]));
}
