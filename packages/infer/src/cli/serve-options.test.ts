import { describe, expect, it } from 'vitest'
import { readServeOptions, serveHelp } from './serve-options.js'

describe('readServeOptions', () => {
  it('reads a command line, with defaults that stay on this machine', () => {
    expect(readServeOptions(['--model', 'm', '--port', '0', '--concurrency', '2'])).toEqual({
      model: 'm',
      adapters: {},
      quantization: 'nf4',
      precision: 'exact',
      device: 'cpu',
      'no-guard': false,
      host: '127.0.0.1',
      port: 0,
      page: 'on',
      temperature: 0.7,
      'top-p': 0.95,
      concurrency: 2,
    })
    expect(readServeOptions(['--help'])).toBe('help')
  })

  it('reads several adapters by name', () => {
    const options = readServeOptions(['--model', 'm', '--adapters', 'warm=a/b, brief=/c=d'])
    expect(options).toMatchObject({ adapters: { warm: 'a/b', brief: '/c=d' } })
    expect(() => readServeOptions(['--model', 'm', '--adapters', 'a'])).toThrow('must be NAME=FOLDER')
    expect(() => readServeOptions(['--generator', 'g.js', '--adapters', 'a=b'])).toThrow('--adapters: needs --model')
  })

  it('mentions every option in its help', () => {
    for (const name of 'model adapter generator model-id quantization precision device context threads host port api-key-file guard no-guard guard-policy guard-country system-prompt temperature top-p max-new-tokens profile page title concurrency queue queue-seconds request-seconds grace-seconds requests-per-minute max-body-bytes'.split(' ')) expect(serveHelp).toContain(`--${name} `) // prettier-ignore
  })

  it('names everything that is wrong at once', () => {
    const read =
      (...argv: string[]) =>
      () =>
        readServeOptions(argv)
    expect(read()).toThrow('--model: give either a model or a generator')
    expect(read('--model', 'm', '--port', '99999', '--temperature', '9', '--page', 'maybe')).toThrow(
      /3 problems:\n.*--port:.*\n.*--temperature:.*\n.*--page:/,
    )
    expect(read('--generator', 'g', '--adapter', 'a')).toThrow('--adapter: needs --model')
    expect(read('--model', 'm', '--guard', 'g.js', '--no-guard')).toThrow('--no-guard: contradicts --guard')
    expect(read('--model', 'm', '--no-guard', '--guard-country', 'US')).toThrow('--guard: --guard-policy and')
    expect(read('--model', 'm', '--guard-country', 'USA')).toThrow('--guard-country: must be a country code')
    expect(read('--model', 'm', '--device', 'cuda', '--precision', 'int8')).toThrow('--precision: --device cuda')
    expect(read('--modle', 'm')).toThrow("mirastral serve: Unknown option '--modle'; --help lists the options")
  })
})
