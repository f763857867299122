import { internal } from '../../errors.js'
import { OrtExecutor } from './executor.js'
import type { OrtAnswer, OrtRequest } from './messages.js'

/** Executes requests in order, in the calling thread. */
export class OrtAnswerer {
  private executor: OrtExecutor | null = null

  async answer(request: OrtRequest): Promise<OrtAnswer> {
    if (request.method === 'create') {
      this.executor = await OrtExecutor.create(request.options)
      return undefined
    }
    const { executor } = this
    if (!executor) throw internal('the ort executor was not created')
    switch (request.method) {
      case 'bind':
        executor.bind(request.name, request.tensor)
        return undefined
      case 'unbind':
        executor.unbind(request.name)
        return undefined
      case 'read':
        return executor.read(request.name)
      case 'compile':
        return executor.compile(request.program, request.options)
      case 'run':
        return executor.run(request.executable, request.feeds, request.names)
      case 'release':
        await executor.release(request.executable)
        return undefined
      case 'endProfiling':
        executor.endProfiling(request.executable)
        return undefined
      case 'dispose':
        await executor.dispose()
        return undefined
    }
  }
}
