// Compiled once per element type T and output type TOUT.
struct Layout {
  int m, n, k;
  int lda, ldb, ldc;
  int transposeA, transposeB;
};

/** The product for shapes that cuBLASLt refuses: one thread per output element. `add` may be null. */
extern "C" __global__ void matmul(TOUT* d, const T* a, const T* b, const TOUT* add, Layout s, u64 strideA, u64 strideB, u64 strideD, float alpha) {
  const int column = blockIdx.x * 16 + threadIdx.x % 16, row = blockIdx.y * 16 + threadIdx.x / 16;
  if (row >= s.m || column >= s.n) return;
  a += blockIdx.z * strideA;
  b += blockIdx.z * strideB;
  float total = 0.f;
  for (int i = 0; i < s.k; i++) {
    const float x = to_f32(s.transposeA ? a[(size_t)i * s.lda + row] : a[(size_t)row * s.lda + i]);
    const float w = to_f32(s.transposeB ? b[(size_t)column * s.ldb + i] : b[(size_t)i * s.ldb + column]);
    total = fmaf(x, w, total);
  }
  const size_t at = blockIdx.z * strideD + (size_t)row * s.ldc + column;
  d[at] = From<TOUT>::f32(alpha * total + (add ? to_f32(add[at]) : 0.f));
}
