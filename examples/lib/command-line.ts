import { parseArgs } from 'node:util'
import { preferenceLossTypes } from '@mirastral/trainer'
import { z } from 'zod'

/** A mistake of the person who runs the program: one line, exit code 2. */
export class UsageError extends Error {
  readonly exitCode = 2
}

const number = z.coerce.number()
const count = number.int().positive()
const schema = z.object({
  model: z.string().min(1).optional(),
  data: z.array(z.string().min(1)).optional(),
  out: z.string().min(1).default('runs/finetune'),
  objective: z.enum(['sft', 'dpo']).default('sft'),
  'dpo-beta': number.positive().default(0.1),
  'dpo-loss-type': z.enum(preferenceLossTypes).default('sigmoid'),
  'dpo-label-smoothing': number.min(0).lt(0.5).default(0),
  rank: count.default(16),
  alpha: number.positive().default(32),
  dropout: number.min(0).lt(1).default(0),
  init: z
    .string()
    .regex(
      /^(default|gaussian|orthogonal|olora|pissa(_niter_\d+)?)$/,
      'must be default, gaussian, orthogonal, pissa or olora',
    )
    .transform((init) => init as 'default' | 'gaussian' | 'orthogonal' | 'olora' | 'pissa')
    .default('default'),
  targets: z.string().default('q_proj,k_proj,v_proj,o_proj'),
  'learning-rate': number.positive().optional(),
  epochs: number.positive().default(3),
  'batch-size': count.default(1),
  accumulation: count.default(4),
  'max-length': count.min(2).default(256),
  'save-steps': count.default(100),
  'budget-minutes': number.positive().default(51),
  'eval-fraction': number.min(0).max(0.9).default(0.1),
  seed: number.int().min(0).default(42),
  threads: count.optional(),
  device: z.enum(['cpu', 'cuda']).default('cpu'),
  precision: z.enum(['float32', 'bfloat16', 'float16']).optional(),
  checkpointing: z.enum(['none', 'full', 'auto']).default('auto'),
  'push-to-hub': z
    .string()
    .regex(/^[\w.-]+\/[\w.-]+$/, 'must be owner/name')
    .optional(),
  'push-when': z.enum(['every_save', 'end']).default('end'),
  dashboard: number.int().min(0).max(65535).optional(),
  'force-restart': z.boolean().default(false),
})

export type FinetuneOptions = z.output<typeof schema>

const HELP = `Fine-tunes a Mistral-family chat model: NF4 base, LoRA adapter, resumable.

  --model FOLDER|OWNER/NAME   the base model (default: a small one made on this machine)
  --data FOLDER...            folders and files of conversations; may be given several times
                              (default: the sample conversations, examples/data)
  --out FOLDER                where everything goes (default: runs/finetune)
  --objective sft|dpo         learn from conversations, or from pairs of a chosen and a rejected answer
  --dpo-beta 0.1  --dpo-loss-type sigmoid|hinge|ipo|robust  --dpo-label-smoothing 0
  --rank 16  --alpha 32  --dropout 0  --targets q_proj,k_proj,v_proj,o_proj
  --init default|gaussian|orthogonal|pissa|olora
  --learning-rate 2e-5 (dpo: 1e-5; the small model: 1e-3, 1e-4)  --epochs 3  --batch-size 1  --accumulation 4
  --max-length 256  --eval-fraction 0.1  --save-steps 100  --budget-minutes 51  --seed 42
  --device cpu|cuda  --precision bfloat16|float16|float32 (cuda; the CPU computes in float32)
  --threads N  --checkpointing auto|none|full  --dashboard PORT
  --push-to-hub OWNER/NAME    publish the adapter with a model card, private (token in HF_TOKEN)
  --push-when end|every_save  at the end, or in the background whenever a checkpoint is saved, the newest one
  --force-restart             keep the old results aside and start anew
`

/** Reads the command line. @throws UsageError that names everything that is wrong. */
export function readOptions(argv: readonly string[]): FinetuneOptions | 'help' {
  const names = Object.keys(schema.shape)
  const flag = (name: string) => name === 'force-restart'
  const options = Object.fromEntries(
    names.map((name) => [
      name,
      { type: flag(name) ? ('boolean' as const) : ('string' as const), multiple: name === 'data' },
    ]),
  )
  // `pnpm run finetune -- --model X` hands the separator on.
  const args = argv[0] === '--' ? argv.slice(1) : [...argv]
  const parsed = parseOrExplain(() =>
    parseArgs({ args, options: { ...options, help: { type: 'boolean', short: 'h' } }, allowPositionals: false }),
  )
  if (parsed.values.help === true) {
    process.stdout.write(HELP)
    return 'help'
  }
  const result = schema.safeParse(parsed.values)
  if (result.success) return checked(result.data)
  const problems = result.error.issues.map((issue) => `--${issue.path.join('.')}: ${issue.message}`)
  throw new UsageError(`${problems.join('; ')}; --help lists the options`)
}

/** What no option can tell for itself. */
function checked(options: FinetuneOptions): FinetuneOptions {
  const { device, precision } = options
  if (device === 'cpu' && precision !== undefined && precision !== 'float32') {
    throw new UsageError(`--precision: the CPU computes in float32, got ${precision}; --device cuda has 16 bits`)
  }
  return options
}

function parseOrExplain<T>(parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    const reason = error instanceof Error ? error.message.split(/\.?(?: |\n)(?=[A-Z])/)[0] : String(error)
    throw new UsageError(`${reason}; --help lists the options`)
  }
}

/**
 * Runs a program. Errors that carry an `exitCode` (all of ours do) end it with one line; anything else is a fault of the
 * program and exits with 1. `DEBUG=mirastral` shows where it happened.
 */
export async function runMain(main: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await main()
  } catch (error) {
    const known = error instanceof Error && 'exitCode' in error && typeof error.exitCode === 'number'
    const message = error instanceof Error ? error.message : String(error)
    if (known && error.exitCode === 0) process.stdout.write(`${message}\n`)
    else process.stderr.write(`${known ? 'error' : 'unexpected error'}: ${message}\n`)
    if (process.env.DEBUG?.includes('mirastral') && error instanceof Error) process.stderr.write(`${error.stack}\n`)
    process.exitCode = known ? Number(error.exitCode) : 1
  }
}
