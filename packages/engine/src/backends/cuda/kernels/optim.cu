/** PyTorch's AdamW; rest1 is 1 - beta1 rounded once, rest2 likewise; outputs may overwrite inputs. */
extern "C" __global__ void adamwStep(float* p, float* m, float* v, const float* p0, const float* g, const float* m0, const float* v0,
                                     const float* learningRate, const float* bias1, const float* bias2, const float* gradScale,
                                     int n, float beta1, float rest1, float beta2, float rest2, float eps, float weightDecay) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float grad = g[i] * *gradScale, lr = *learningRate;
  const float m1 = beta1 * m0[i] + rest1 * grad;
  const float v1 = beta2 * v0[i] + rest2 * grad * grad;
  const float denominator = sqrtf(v1) / sqrtf(*bias2) + eps;
  p[i] = p0[i] * (1.f - lr * weightDecay) - (lr / *bias1) * m1 / denominator;
  m[i] = m1;
  v[i] = v1;
}
