/** What an adapter adds to a product: alpha x W^T with rows of `rank` elements, those of x `pitch` apart. x may be null. */
struct Adapter {
  const T* x;
  const T* weight;
  int rank, pitch;
  float alpha;

  /** Its part of one output. Read before the base weight, whose loads hide it. */
  __device__ __forceinline__ float at(int row, int column) const {
    if (!x) return 0.f;
    const T *a = x + (size_t)row * pitch, *b = weight + (size_t)column * rank;
    float total = 0.f;
    if (sizeof(T) == 2 && rank % 8 == 0 && pitch % 8 == 0) {
      for (int i = 0; i < rank; i += 8) {
        T u[8], v[8];
        *(uint4*)u = __ldg((const uint4*)(a + i));
        *(uint4*)v = __ldg((const uint4*)(b + i));
#pragma unroll
        for (int j = 0; j < 8; j++) total = fmaf(to_f32(u[j]), to_f32(v[j]), total);
      }
    } else {
      for (int i = 0; i < rank; i++) total = fmaf(to_f32(a[i]), to_f32(b[i]), total);
    }
    return alpha * total;
  }
};
