import { parentPort, workerData } from 'node:worker_threads'
import { serveChunks } from './pipeline/worker-thread.js'

if (parentPort === null) throw new Error('internal: process-worker.js runs as a worker thread only')
await serveChunks(parentPort, workerData)
