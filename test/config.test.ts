import t from 'tap'
import { readFileSync } from 'node:fs'
import { readConfig, settings } from '../src/config.js'

t.test('a wrong value stops the start with a line that names the variable', async t => {
  const wrong: [Record<string, string>, RegExp][] = [
    [{ TWINFOLD_MQTT_PORT: '70000' }, /TWINFOLD_MQTT_PORT='70000': must be a whole number from 0 to 65535/],
    [{ TWINFOLD_HTTP_PORT: '' }, /TWINFOLD_HTTP_PORT/],
    [{ TWINFOLD_LOG: 'loud' }, /TWINFOLD_LOG='loud': must be one of debug, info/],
    [{ TWINFOLD_ADMIN_KEY: 'secret' }, /TWINFOLD_ADMIN_KEY: must be twa_/],
    [{ TWINFOLD_TLS_KEY: 'key.pem' }, /belong together/],
    [{ TWINFOLD_MQTTPORT: '1' }, /TWINFOLD_MQTTPORT is not a setting/]
  ]
  for (const [environment, expected] of wrong) t.throws(() => readConfig(environment), { message: expected })
  t.throws(() => readConfig({ TWINFOLD_LOG: 'loud', TWINFOLD_PACK_THREADS: '0' }), { message: /TWINFOLD_LOG[\s\S]*TWINFOLD_PACK_THREADS/ }, 'all wrong values are named at once')
})

t.test('without settings the server binds to loopback', async t => {
  const config = readConfig({})
  t.equal(config.host, '127.0.0.1')
  t.equal(Object.isFrozen(config), true)
})

t.test('docs/CONFIGURATION.md lists every setting with its default and nothing else', async t => {
  const text = readFileSync('docs/CONFIGURATION.md', 'utf8')
  const listed = [...text.matchAll(/^\| `(TWINFOLD_[A-Z_]+)` \| (?:`([^`]*)`|none|by cores) \| (.*) \|$/gm)]
  t.same(listed.map(row => row[1]), Object.values(settings).map(setting => setting.variable))
  for (const [, variable, fallback, meaning] of listed) {
    const setting = Object.values(settings).find(candidate => candidate.variable === variable)
    if (fallback !== undefined) t.equal(fallback, setting?.fallback, `${variable} default`)
    t.equal(meaning, setting?.meaning, `${variable} meaning`)
  }
})
