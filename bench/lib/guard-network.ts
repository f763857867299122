// The guard's network as a training program of @mirastral/engine: the same formulas as `runNetwork` of @mirastral/infer.
import type { Program, Value } from '@mirastral/engine'
import {
  add, adamwStep, broadcastTo, concat, div, dropout, embedding, exp, f32, full, grad, Graph, i32, linear, log, max, maximum, mul, neg,
  reshape, scale, sigmoid, slice, sqrt, sub, sum, sumSquares, tanh,
} from '@mirastral/engine' // prettier-ignore

export interface NetworkSizes {
  /** Rows of the word vectors, of the markers, and of the output. */
  readonly rows: number
  readonly markers: number
  readonly labels: number
  readonly width: number
  readonly markerWidth: number
  readonly hidden: number
  readonly layers: number
  readonly heads: number
}

/** Shapes of all trained tensors by name, as in `GuardNetwork.weights`, and `vectors`. */
export function tensorShapes(sizes: NetworkSizes): Map<string, readonly [number, number] | readonly [number]> {
  const { rows, markers, labels, width, markerWidth, hidden, layers, heads } = sizes
  const shapes = new Map<string, readonly [number, number] | readonly [number]>([
    ['vectors', [rows, width]],
    ['markers', [markers, markerWidth]],
  ])
  for (let layer = 0; layer < layers; layer += 1) {
    for (const name of [`forward.${layer}`, `backward.${layer}`]) {
      shapes.set(`${name}.wx`, [3 * hidden, layer === 0 ? width + markerWidth : 2 * hidden])
      shapes.set(`${name}.wh`, [3 * hidden, hidden])
      shapes.set(`${name}.bx`, [3 * hidden])
      shapes.set(`${name}.bh`, [3 * hidden])
    }
  }
  shapes.set('attend', [heads, 2 * hidden])
  shapes.set('out.weight', [labels, (2 + heads) * 2 * hidden])
  shapes.set('out.bias', [labels])
  return shapes
}

export interface TrainingProgramOptions {
  readonly batch: number
  readonly length: number
  readonly weightDecay: number
  readonly inputDropout: number
  /** Between two layers. */
  readonly layerDropout: number
  readonly outputDropout: number
}

/**
 * One step of AdamW on a batch. Inputs, the time axis first: `ids` i32[length, batch], `marks` f32[length, batch, markers],
 * `mask` f32[length, batch, 1], `targets` and `weights` f32[batch, labels], `seed` i32[2], and the scalars `learningRate`,
 * `bias1`, `bias2`. Output: `loss`.
 */
export function trainingProgram(sizes: NetworkSizes, options: TrainingProgramOptions): Program {
  const { batch, length } = options
  const g = new Graph(`guard ${batch}x${length}`)
  const shapes = tensorShapes(sizes)
  const state = (name: string): Value => g.state(name, f32(...(shapes.get(name) ?? [])))
  const logits = networkLogits(g, sizes, options, state)
  const targets = g.input('targets', f32(batch, sizes.labels))
  const weights = g.input('weights', f32(batch, sizes.labels))
  const loss = scale(sum(mul(weights, binaryCrossEntropy(logits, targets))), 1 / (batch * sizes.labels))
  const parameters = [...shapes.keys()].map(state)
  const gradients = grad(loss, parameters)
  const norm = sqrt(gradients.map((x) => sumSquares(x)).reduce((a, b) => add(a, b)))
  const one = full(g, f32(), 1)
  const gradScale = div(one, maximum(one, norm))
  const [learningRate, bias1, bias2] = ['learningRate', 'bias1', 'bias2'].map((name) => g.input(name, f32()))
  if (!learningRate || !bias1 || !bias2) throw new Error('internal: guard training: inputs')
  ;[...shapes].forEach(([name, shape], i) => {
    const [parameter, gradient] = [parameters[i], gradients[i]]
    if (!parameter || !gradient) throw new Error(`internal: guard training: no gradient of ${name}`)
    const firstMoment = g.state(`m/${name}`, f32(...shape))
    const secondMoment = g.state(`v/${name}`, f32(...shape))
    const next = adamwStep(
      { parameter, gradient, firstMoment, secondMoment, learningRate, bias1, bias2, gradScale },
      { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: options.weightDecay },
    )
    g.update(parameter, next.parameter)
    g.update(firstMoment, next.firstMoment)
    g.update(secondMoment, next.secondMoment)
  })
  g.output('loss', loss)
  return g.build()
}

/** Only the forward pass, without dropout: the inputs `ids`, `marks` and `mask` as in training, the output `logits`. */
export function forwardProgram(sizes: NetworkSizes, batch: number, length: number): Program {
  const g = new Graph(`guard forward ${batch}x${length}`)
  const shapes = tensorShapes(sizes)
  const state = (name: string): Value => g.state(name, f32(...(shapes.get(name) ?? [])))
  g.output(
    'logits',
    networkLogits(
      g,
      sizes,
      { batch, length, weightDecay: 0, inputDropout: 0, layerDropout: 0, outputDropout: 0 },
      state,
    ),
  )
  return g.build()
}

function networkLogits(
  g: Graph,
  sizes: NetworkSizes,
  { batch, length, inputDropout, layerDropout, outputDropout }: TrainingProgramOptions,
  state: (name: string) => Value,
): Value {
  const drop = (x: Value, p: number, stream: number): Value =>
    p === 0 ? x : dropout(x, g.input('seed', i32(2)), { p, stream })
  const mask = g.input('mask', f32(length, batch, 1))
  const words = embedding(state('vectors'), g.input('ids', i32(length, batch)))
  const marks = linear(g.input('marks', f32(length, batch, sizes.markers)), state('markers'), {
    transposeWeight: false,
  })
  let both = drop(concat([words, marks], 2), inputDropout, 1)
  for (let layer = 0; layer < sizes.layers; layer += 1) {
    const inputs = layer === 0 ? both : drop(both, layerDropout, 2 + layer)
    const states = ['forward', 'backward'].map((name) =>
      recurrentStates(g, sizes, `${name}.${layer}`, inputs, mask, state),
    )
    both = concat(states, 2)
  }
  const pooled = drop(concat(pooledStates(sizes, both, mask, state), 1), outputDropout, 2)
  return add(linear(pooled, state('out.weight')), state('out.bias'))
}

/** f32[batch, 2 hidden] each: the maximum over time, the mean, and for each head the mean by its weights. */
function pooledStates(sizes: NetworkSizes, both: Value, mask: Value, state: (name: string) => Value): Value[] {
  const [length = 0, batch = 0] = both.shape
  const wide = broadcastTo(mask, both.shape)
  // -10 is below every state, so that no padding is a maximum.
  const highest = max(add(mul(both, wide), scale(wide, 10, -10)), { axes: [0] })
  const count = broadcastTo(sum(mask, { axes: [0] }), [batch, 2 * sizes.hidden])
  const average = div(sum(mul(both, wide), { axes: [0] }), count)
  const products = linear(both, state('attend'))
  // Far enough below that padding has no weight; the largest is taken off so that no power overflows.
  const present = broadcastTo(mask, products.shape)
  const masked = add(mul(products, present), scale(present, 1e4, -1e4))
  const powers = exp(sub(masked, broadcastTo(max(masked, { axes: [0], keepDims: true }), masked.shape)))
  const weights = div(powers, broadcastTo(sum(powers, { axes: [0], keepDims: true }), powers.shape))
  const means = Array.from({ length: sizes.heads }, (_, head) => {
    const own = slice(weights, { axis: 2, start: head, end: head + 1 })
    return sum(mul(both, broadcastTo(own, [length, batch, 2 * sizes.hidden])), { axes: [0] })
  })
  return [highest, average, ...means]
}

/** A gated recurrent unit unrolled over time; padding leaves the state as it is. */
function recurrentStates(
  g: Graph,
  { hidden }: NetworkSizes,
  name: string,
  inputs: Value,
  mask: Value,
  parameter: (name: string) => Value,
): Value {
  const [length = 0, batch = 0] = inputs.shape
  const [wh, bh] = [parameter(`${name}.wh`), parameter(`${name}.bh`)]
  const gates = add(linear(inputs, parameter(`${name}.wx`)), parameter(`${name}.bx`))
  const order = Array.from({ length }, (_, t) => (name.startsWith('forward') ? t : length - 1 - t))
  let h = full(g, f32(batch, hidden), 0)
  const states: Value[] = []
  for (const t of order) {
    const x = reshape(slice(gates, { axis: 0, start: t, end: t + 1 }), [batch, 3 * hidden])
    const present = reshape(slice(mask, { axis: 0, start: t, end: t + 1 }), [batch, 1])
    const r = add(linear(h, wh), bh)
    const part = (v: Value, from: number, to: number): Value =>
      slice(v, { axis: 1, start: from * hidden, end: to * hidden })
    const both = sigmoid(add(part(x, 0, 2), part(r, 0, 2)))
    const candidate = tanh(add(part(x, 2, 3), mul(part(both, 0, 1), part(r, 2, 3))))
    const next = add(candidate, mul(part(both, 1, 2), sub(h, candidate)))
    h = add(h, mul(present, sub(next, h)))
    states[t] = reshape(h, [1, batch, hidden])
  }
  return concat(states, 0)
}

/** Of logits, without overflow: max(x, 0) - x t + log(1 + exp(-|x|)). */
function binaryCrossEntropy(x: Value, targets: Value): Value {
  const positive = maximum(x, scale(x, 0))
  const magnitude = maximum(x, neg(x))
  return add(sub(positive, mul(x, targets)), log(scale(exp(neg(magnitude)), 1, 1)))
}
