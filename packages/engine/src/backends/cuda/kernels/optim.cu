/** PyTorch's AdamW; rest1 is 1 - beta1 rounded once, rest2 likewise; outputs may overwrite inputs. */
__device__ __forceinline__ void step(float* p, float* m, float* v, const float* p0, const float* g, const float* m0, const float* v0, int i,
                                     float lr, float bias1, float bias2, float gradScale,
                                     float beta1, float rest1, float beta2, float rest2, float eps, float weightDecay) {
  const float grad = g[i] * gradScale;
  const float m1 = beta1 * m0[i] + rest1 * grad;
  const float v1 = beta2 * v0[i] + rest2 * grad * grad;
  const float denominator = sqrtf(v1) / sqrtf(bias2) + eps;
  p[i] = p0[i] * (1.f - lr * weightDecay) - (lr / bias1) * m1 / denominator;
  m[i] = m1;
  v[i] = v1;
}

extern "C" __global__ void adamwStep(float* p, float* m, float* v, const float* p0, const float* g, const float* m0, const float* v0, int n,
                                     const float* learningRate, const float* bias1, const float* bias2, const float* gradScale,
                                     float beta1, float rest1, float beta2, float rest2, float eps, float weightDecay) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) step(p, m, v, p0, g, m0, v0, i, *learningRate, *bias1, *bias2, *gradScale, beta1, rest1, beta2, rest2, eps, weightDecay);
}

struct AdamwTable {
  struct {
    float *p, *m, *v;
    const float *p0, *g, *m0, *v0;
    long long n;
  } rows[GROUP];
};

extern "C" __global__ void adamwStepGroup(AdamwTable table, const float* learningRate, const float* bias1, const float* bias2, const float* gradScale,
                                          float beta1, float rest1, float beta2, float rest2, float eps, float weightDecay) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const auto& row = table.rows[blockIdx.y];
  if (i < (int)row.n) step(row.p, row.m, row.v, row.p0, row.g, row.m0, row.v0, i, *learningRate, *bias1, *bias2, *gradScale, beta1, rest1, beta2, rest2, eps, weightDecay);
}
