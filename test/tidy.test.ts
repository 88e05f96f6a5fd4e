import t from 'tap'
import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'

/** The rules of docs/ARCHITECTURE.md about who may know whom, checked on the sources themselves. */
const sources = [...walk('src'), ...walk('workers'), ...walk('simulators'), ...walk('bench')]

function walk (directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.ts')).map(name => join(directory, name))
}

interface Import { readonly target: string, readonly typeOnly: boolean }

function importsOf (file: string): Import[] {
  const text = readFileSync(file, 'utf8')
  const found: Import[] = []
  for (const match of text.matchAll(/^(?:import|export)\s+(type\s+)?([^;'"]*?from\s+)?['"]([^'"]+)['"]/gm)) {
    const specifier = match[3]
    const target = specifier.startsWith('.') ? normalize(join(dirname(file), specifier)).replace(/\.js$/, '.ts') : specifier
    const names = match[2] ?? ''
    const typeOnly = match[1] !== undefined || (/^\{/.test(names.trim()) && names.replace(/^\{|\}.*$/gs, '').split(',').every(name => name.trim() === '' || name.trim().startsWith('type ')))
    found.push({ target, typeOnly })
  }
  return found
}

t.test('core imports only Node and itself', async t => {
  for (const file of sources.filter(name => name.startsWith('src/core/'))) {
    for (const { target } of importsOf(file)) t.ok(target.startsWith('node:') || target.startsWith('src/core/'), `${file} imports ${target}`)
  }
})

t.test('only the open-*.ts beside the ports name a storage backend', async t => {
  const allowed = /^src\/store\/(open-[a-z]+\.ts|embedded\/|cluster\/)/
  for (const file of sources.filter(name => name.startsWith('src/') && !allowed.test(name))) {
    for (const { target } of importsOf(file)) t.notMatch(target, /src\/store\/(embedded|cluster)\//, `${file} imports ${target}`)
  }
})

t.test('stages import core, series, ports, models and themselves; siblings by type only', async t => {
  const stages = ['alarms', 'analytics', 'commands', 'edge', 'events', 'gate', 'inlet', 'journal', 'live', 'models', 'nodes', 'pipeline', 'presence', 'query', 'sealing', 'search', 'tenancy', 'transfer', 'twin']
  // What every stage may use: words, pure series code, ports, the record format, the gate's pure decisions, the models.
  const shared = /^src\/(core|series|store)\/|^src\/journal\/(record|segment-scan|journal-types)\.ts$|^src\/gate\/|^src\/tenancy\/model\.ts$|^workers\/([a-z]+-)?protocol\.ts$/
  for (const stage of stages) {
    for (const file of sources.filter(name => name.startsWith(`src/${stage}/`))) {
      for (const { target, typeOnly } of importsOf(file)) {
        if (!target.startsWith('src/') && !target.startsWith('workers/')) continue
        t.ok(typeOnly || target.startsWith(`src/${stage}/`) || shared.test(target), `${file} imports ${target}`)
      }
    }
  }
})

t.test('only main.ts reads the environment', async t => {
  for (const file of sources.filter(name => name.startsWith('src/') && name !== 'src/main.ts')) {
    t.notMatch(readFileSync(file, 'utf8'), /process\.env/, file)
  }
})

t.test('every source file says why it exists, and none has grown past a seam', async t => {
  for (const file of sources) {
    const text = readFileSync(file, 'utf8')
    t.match(text, /^(#!.*\n)?\/\*\*/, `${file} begins with a header comment`)
    t.ok(text.split('\n').length <= 450, `${file} has ${text.split('\n').length} lines; 450 at most`)
  }
})

t.test('no leftover marks in sources and documents', async t => {
  const documents = [...walk('test'), ...sources, 'README.md', ...readdirSync('docs', { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.md')).map(name => join('docs', name))]
  for (const file of documents.filter(name => relative('test', name) !== 'tidy.test.ts')) {
    t.notMatch(readFileSync(file, 'utf8'), /\b(TO[D]O|FIX[M]E|XX[X])\b/, file)
  }
})
