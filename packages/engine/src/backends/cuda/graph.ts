import { check, type Device } from './device.js'

const RELAXED = 2

/** Work recorded from a stream, replayed by one call. */
export class CudaGraph {
  private constructor(
    private readonly device: Device,
    private readonly executable: bigint,
  ) {}

  /** Records what `enqueue` puts on the device's stream. */
  static capture(device: Device, doing: string, enqueue: () => void): CudaGraph {
    const { driver, stream } = device
    check('cuStreamBeginCapture', doing, driver.cuStreamBeginCapture_v2(stream, RELAXED))
    const graph = new BigUint64Array(1)
    try {
      enqueue()
    } finally {
      check('cuStreamEndCapture', doing, driver.cuStreamEndCapture(stream, graph))
    }
    const executable = device.value('cuGraphInstantiateWithFlags', doing, graph[0], 0n)
    check('cuGraphDestroy', doing, driver.cuGraphDestroy(graph[0]))
    check('cuGraphUpload', doing, driver.cuGraphUpload(executable, stream))
    return new CudaGraph(device, executable)
  }

  launch(doing: string): void {
    check('cuGraphLaunch', doing, this.device.driver.cuGraphLaunch(this.executable, this.device.stream))
  }

  dispose(): void {
    this.device.driver.cuGraphExecDestroy(this.executable)
  }
}
