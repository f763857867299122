import { existsSync, readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'

/** The three libraries that the backend calls. */
export type LibraryName = 'cuda' | 'nvrtc' | 'cublasLt'

/** CUDA releases whose libraries are looked for, the newest first. */
const MAJORS = ['13', '12'] as const

/** What a library's file is called, the likeliest first. */
export function fileNames(library: LibraryName, platform: NodeJS.Platform = process.platform): string[] {
  if (platform === 'win32') {
    if (library === 'cuda') return ['nvcuda.dll']
    const stem = library === 'nvrtc' ? 'nvrtc64_' : 'cublasLt64_'
    return MAJORS.map((major) => (library === 'nvrtc' ? `${stem}${major}0_0.dll` : `${stem}${major}.dll`))
  }
  if (library === 'cuda') return ['libcuda.so.1', 'libcuda.so']
  return [...MAJORS.map((major) => `lib${library}.so.${major}`), `lib${library}.so`]
}

export interface SearchEnvironment {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly home: string
  readonly platform: NodeJS.Platform
}

export const thisMachine = (): SearchEnvironment => ({ env: process.env, home: homedir(), platform: process.platform })

/**
 * Folders in which NVIDIA's libraries are usually found: MIRASTRAL_CUDA_LIBS, the CUDA toolkit, the driver's folders,
 * conda, and the `nvidia` packages of Python environments. Only those that exist.
 */
export function libraryFolders({ env, home, platform }: SearchEnvironment): string[] {
  const own = (env.MIRASTRAL_CUDA_LIBS ?? '').split(delimiter)
  const toolkits = [env.CUDA_HOME, env.CUDA_PATH, '/usr/local/cuda', ...children('/usr/local', /^cuda-\d/)]
  const toolkitFolders = toolkits.flatMap((root) =>
    root ? ['lib64', 'lib', 'bin', 'targets/x86_64-linux/lib', 'targets/sbsa-linux/lib'].map((f) => join(root, f)) : [],
  )
  const driver = [
    '/usr/local/nvidia/lib64',
    '/usr/lib/wsl/lib',
    '/usr/lib/x86_64-linux-gnu',
    '/usr/lib/aarch64-linux-gnu',
  ]
  const conda = env.CONDA_PREFIX ? [join(env.CONDA_PREFIX, 'lib'), join(env.CONDA_PREFIX, 'Library', 'bin')] : []
  const prefixes = [
    env.VIRTUAL_ENV,
    env.CONDA_PREFIX,
    join(home, '.local'),
    ...pythonPrefixes(env),
    '/usr/local',
    '/usr',
  ]
  const packages = prefixes.flatMap((prefix) => (prefix ? nvidiaPackages(prefix, platform) : []))
  const all = [...own, ...toolkitFolders, ...driver, ...conda, ...packages]
  return [...new Set(all.filter((folder) => folder !== '' && existsSync(folder)))]
}

/** The environments whose `python3` is on the PATH. */
function pythonPrefixes(env: SearchEnvironment['env']): string[] {
  const folders = (env.PATH ?? '').split(delimiter)
  return folders.filter((f) => f !== '' && existsSync(join(f, 'python3'))).map(dirname)
}

/** `lib` folders of the nvidia-* wheels in an environment. */
function nvidiaPackages(prefix: string, platform: NodeJS.Platform): string[] {
  const roots =
    platform === 'win32'
      ? [join(prefix, 'Lib', 'site-packages')]
      : children(join(prefix, 'lib'), /^python3/).flatMap((python) => [
          join(python, 'site-packages'),
          join(python, 'dist-packages'),
        ])
  return roots.flatMap((root) =>
    children(join(root, 'nvidia'), /^\w/).map((name) => join(name, platform === 'win32' ? 'bin' : 'lib')),
  )
}

function children(folder: string, pattern: RegExp): string[] {
  try {
    const names = readdirSync(folder).filter((name) => pattern.test(name))
    return names
      .sort()
      .reverse()
      .map((name) => join(folder, name))
  } catch {
    return []
  }
}

/** Paths to try for a library: by bare name first, as the loader's own configuration knows it best. */
export function candidates(library: LibraryName, machine: SearchEnvironment): string[] {
  const names = fileNames(library, machine.platform)
  const found = libraryFolders(machine).flatMap((folder) =>
    names.map((name) => join(folder, name)).filter((path) => existsSync(path)),
  )
  const own = machine.env.MIRASTRAL_CUDA_LIBS ? found : []
  return [...own, ...names, ...found]
}
