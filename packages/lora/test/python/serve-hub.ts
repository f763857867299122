/**
 * For check_publish.py: starts the tests' Hub server, publishes an adapter to it, prints what it did as one line of JSON,
 * and serves until its input ends.
 */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { publishAdapter } from '@mirastral/lora'
import { evidence } from '../evidence.js'
import { startHubServer } from '../hub-server.js'

const [source] = process.argv.slice(2)
const token = 'hf_for_the_check_only'
const repo = 'me/helper'
const server = await startHubServer(token)
const folder = await mkdtemp(join(tmpdir(), 'mirastral-publish-'))
await cp(source, folder, { recursive: true })
const report = await publishAdapter(folder, repo, { accessToken: token, hubUrl: server.url, evidence })
process.stdout.write(`${JSON.stringify({ url: server.url, token, report })}\n`)
for await (const _chunk of process.stdin) continue
await server.close()
await rm(folder, { recursive: true })
