// Compiled once per element type T (float, bf16, f16, int).
typedef T Scalar;
template <class U> struct Compute { typedef float type; };
template <> struct Compute<int> { typedef int type; };
typedef Compute<Scalar>::type C;

__device__ __forceinline__ C get(Scalar x) {
  if constexpr (sizeof(C) == sizeof(Scalar)) return *(C*)&x;
  else return to_f32(x);
}
__device__ __forceinline__ Scalar put(C x) {
  if constexpr (sizeof(C) == sizeof(Scalar)) return *(Scalar*)&x;
  else return From<Scalar>::f32((float)x);
}

/** The output's extents and each operand's strides (0 where it broadcasts). */
struct Dims {
  int rank;
  int shape[6];
  int strides[3][6];
};

__device__ __forceinline__ void offsets(const Dims& d, int index, int operands, int* out) {
  for (int o = 0; o < operands; o++) out[o] = 0;
  for (int axis = d.rank - 1; axis >= 0; axis--) {
    const int i = index % d.shape[axis];
    index /= d.shape[axis];
    for (int o = 0; o < operands; o++) out[o] += i * d.strides[o][axis];
  }
}

__device__ __forceinline__ float divide(float a, float b) { return a / b; }
__device__ __forceinline__ int divide(int a, int b) { return a / b; }
// As fmaxf, but a NaN operand gives NaN, as in the definition.
__device__ __forceinline__ float larger(float a, float b) { return a > b || a != a ? a : b; }
__device__ __forceinline__ int larger(int a, int b) { return a > b ? a : b; }

#define BINARY(NAME, EXPRESSION)                                                                  \
  extern "C" __global__ void NAME(Scalar* y, const Scalar* a, const Scalar* b, int n, Dims d) {   \
    const int i = blockIdx.x * blockDim.x + threadIdx.x;                                          \
    if (i >= n) return;                                                                           \
    int at[2];                                                                                    \
    offsets(d, i, 2, at);                                                                         \
    const C p = get(a[at[0]]), q = get(b[at[1]]);                                                 \
    y[i] = put(EXPRESSION);                                                                       \
  }                                                                                               \
  extern "C" __global__ void NAME##Flat(Scalar* y, const Scalar* a, const Scalar* b, int n) {     \
    const int start = (blockIdx.x * blockDim.x + threadIdx.x) * Pack<Scalar>::size;               \
    if (start >= n) return;                                                                       \
    if (start + Pack<Scalar>::size <= n) {                                                        \
      Pack<Scalar> pa = *(const Pack<Scalar>*)(a + start), pb = *(const Pack<Scalar>*)(b + start); \
      for (int k = 0; k < Pack<Scalar>::size; k++) {                                              \
        const C p = get(pa.v[k]), q = get(pb.v[k]);                                               \
        pa.v[k] = put(EXPRESSION);                                                                \
      }                                                                                           \
      *(Pack<Scalar>*)(y + start) = pa;                                                           \
      return;                                                                                     \
    }                                                                                             \
    for (int i = start; i < n; i++) {                                                             \
      const C p = get(a[i]), q = get(b[i]);                                                       \
      y[i] = put(EXPRESSION);                                                                     \
    }                                                                                             \
  }

BINARY(add, p + q)
BINARY(sub, p - q)
BINARY(mul, p * q)
BINARY(div, divide(p, q))
BINARY(maximum, larger(p, q))

#define COMPARISON(NAME, EXPRESSION)                                                          \
  extern "C" __global__ void NAME(u8* y, const Scalar* a, const Scalar* b, int n, Dims d) {   \
    const int i = blockIdx.x * blockDim.x + threadIdx.x;                                      \
    if (i >= n) return;                                                                       \
    int at[2];                                                                                \
    offsets(d, i, 2, at);                                                                     \
    const C p = get(a[at[0]]), q = get(b[at[1]]);                                             \
    y[i] = (EXPRESSION) ? 1 : 0;                                                              \
  }

COMPARISON(greater, p > q)
COMPARISON(equal, p == q)

extern "C" __global__ void select(Scalar* y, const u8* c, const Scalar* a, const Scalar* b, int n, Dims d) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int at[3];
  offsets(d, i, 3, at);
  y[i] = c[at[0]] ? a[at[1]] : b[at[2]];
}

#define UNARY(NAME, EXPRESSION)                                                     \
  extern "C" __global__ void NAME##Each(Scalar* y, const Scalar* x, int n) {        \
    const int i = blockIdx.x * blockDim.x + threadIdx.x;                            \
    if (i >= n) return;                                                             \
    const float v = to_f32(x[i]);                                                   \
    y[i] = From<Scalar>::f32(EXPRESSION);                                           \
  }

UNARY(neg, -v)
UNARY(exp, expf(v))
UNARY(log, logf(v))
UNARY(sqrt, sqrtf(v))
UNARY(sigmoid, sigmoid_of(v))
UNARY(tanh, tanhf(v))

extern "C" __global__ void scale(Scalar* y, const Scalar* x, int n, float factor, float offset) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = From<Scalar>::f32(fmaf(to_f32(x[i]), factor, offset));
}

extern "C" __global__ void full(Scalar* y, int n, float value) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = From<Scalar>::f32(value);
}

struct FullTable {
  struct {
    Scalar* y;
    long long n;
  } rows[GROUP];
};

extern "C" __global__ void fullGroup(FullTable table, float value) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < (int)table.rows[blockIdx.y].n) table.rows[blockIdx.y].y[i] = From<Scalar>::f32(value);
}
