import { expect, test } from 'vitest'
import { add, f32, grad, Graph, linear, linearCrossEntropy, i32, nf4, sum } from '../../index.js'
import { lowerProgram } from './lower.js'

function trainingProgram() {
  const g = new Graph('train')
  const x = g.input('x', f32(4, 64))
  const w = g.constant('w', nf4([64, 64]))
  const a = g.state('a', f32(64, 64))
  const accumulated = g.state('accumulated', f32(64, 64))
  const h = add(linear(x, w), linear(x, a))
  const loss = sum(linearCrossEntropy(linear(h, w), g.constant('head', f32(8, 64)), g.input('targets', i32(4))).loss)
  const [da] = grad(loss, [a])
  g.update(accumulated, add(accumulated, da))
  g.output('loss', loss)
  return lowerProgram(g.build(), { denseNf4: false })
}

test('what depends on frozen weights alone comes first', () => {
  const { nodes } = trainingProgram().model
  const lookup = nodes.findIndex((n) => n.opType === 'Gather' && n.inputs[0].startsWith('c'))
  const product = nodes.findIndex((n) => n.opType === 'MatMulBnb4')
  expect(lookup).toBeGreaterThanOrEqual(0)
  expect(lookup).toBeLessThan(product)
})

test('what only the loss needs comes last, after the updates', () => {
  const { model, updates, outputs } = trainingProgram()
  const position = (name: string) => model.nodes.findIndex((n) => n.outputs.includes(name))
  expect(position(outputs[0])).toBe(model.nodes.length - 1)
  expect(position(updates[0])).toBeLessThan(position(outputs[0]))
})

test('dead nodes are dropped: the accuracy and the softmax denominator that nobody reads', () => {
  const { nodes } = trainingProgram().model
  expect(nodes.filter((n) => n.opType === 'GatherElements')).toEqual([])
  const used = new Set([...nodes.flatMap((n) => n.inputs), ...trainingProgram().updates, ...trainingProgram().outputs])
  expect(nodes.filter((n) => !n.outputs.some((name) => used.has(name)))).toEqual([])
})

test('the forward product reads packed codes, its backward a dense copy made in the graph', () => {
  const { feeds } = trainingProgram()
  const forms = feeds.filter((f) => f.source.name === 'w').map((f) => f.form)
  expect(forms.sort()).toEqual(['absmax', 'codes16', 'codes8'])
})
