/** Commands on the embedded store. */
import t from 'tap'
import type { Store } from '../../src/store/store.js'
import { embeddedStore } from './command-world.js'
import { commandsSuite } from './commands-suite.js'

let shared: Promise<Store> | null = null
commandsSuite(t, async () => await (shared ??= embeddedStore(t)))
