// @ts-check
import tseslint from 'typescript-eslint'

/** Which of our packages a package may import. The direction of the data: see docs/architecture.md. */
const mayImport = {
  safetensors: [],
  quant: ['safetensors'],
  engine: ['quant'],
  models: ['engine', 'quant', 'safetensors'],
  lora: ['models', 'engine', 'quant', 'safetensors'],
  data: [],
  trainer: ['engine', 'quant', 'models', 'lora', 'data', 'safetensors'],
  infer: ['engine', 'quant', 'models', 'lora', 'data', 'safetensors'],
}
const all = Object.keys(mayImport)

const importDirection = Object.entries(mayImport).map(([name, allowed]) => ({
  files: [`packages/${name}/src/**/*.ts`],
  ignores: ['**/*.test.ts'],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          {
            group: all.filter((p) => !allowed.includes(p)).flatMap((p) => [`@mirastral/${p}`, `@mirastral/${p}/*`]),
            message: `@mirastral/${name} may import only: ${allowed.join(', ') || 'nothing of ours'}.`,
          },
          { group: ['../../*/src/*', '../../../*/src/*'], message: 'Import a package by its name.' },
        ],
      },
    ],
  },
}))

export default tseslint.config(
  { ignores: ['**/dist/**', '**/node_modules/**', 'coverage/**', 'runs/**', '.cache/**', '.gpu/**', 'fixtures/**'] },
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.recommendedTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'separate-type-imports' }],
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/prefer-for-of': 'off',
      // Attribute types must be aliases: an interface does not satisfy an index signature.
      '@typescript-eslint/consistent-type-definitions': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      eqeqeq: ['error', 'always'],
      'max-lines': ['error', { max: 500, skipBlankLines: true, skipComments: true }],
      'max-lines-per-function': ['error', { max: 80, skipBlankLines: true, skipComments: true }],
    },
  },
  {
    files: ['**/*.test.ts', '**/test/**/*.ts', 'bench/**/*.ts'],
    rules: { 'max-lines-per-function': 'off' },
  },
  ...importDirection,
)
