// What both attention files on tensor cores share.
#define LOG2E 1.4426950408889634f

struct Shape {
  int batch, tokens, heads, kvHeads, headDim, window;
  float scale;
};

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;"); }
template <int N> __device__ __forceinline__ void wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N)); }

__device__ __forceinline__ bool may_attend(int i, int j, const Shape& s, const int* segments) {
  return j <= i && i < s.tokens && (s.window == 0 || i - j < s.window) && (!segments || segments[i] == segments[j]);
}
/** Whether every pair of the two tiles may attend, segments aside. */
__device__ __forceinline__ bool all_attend(int firstQ, int rowsQ, int firstK, int rowsK, const Shape& s) {
  return firstK + rowsK - 1 <= firstQ && firstQ + rowsQ <= s.tokens && (s.window == 0 || firstQ + rowsQ - 1 - firstK < s.window);
}
