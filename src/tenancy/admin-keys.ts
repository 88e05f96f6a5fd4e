/** Platform admin keys: the one of the configuration, or one that is generated at the first start and shown once. */
import type { Clock } from '../core/clock.js'
import { hashSecret, newCredential } from '../gate/authenticate.js'
import type { RegistryStore } from '../store/registry.js'
import type { SettingsStore } from '../store/small-stores.js'

const adminKeyMade = 'admin-key-made'

/** One key per label: an older one of the same label is revoked. Returns the secret. */
export async function addAdminKey (store: RegistryStore, label: string, clock: Clock): Promise<string> {
  const { items } = await store.listCredentials(null, null, 1000)
  for (const older of items) if (older.label === label) await store.deleteCredential(null, older.id)
  const { secret, credential } = newCredential('admin', null, null, label, clock.nowUs())
  await store.putCredential(credential)
  return secret
}

/** A configured key is made good at every start; without one, a key is generated at the first start alone: its secret, else null. */
export async function makeFirstAdminKey (store: RegistryStore & SettingsStore, configured: string, clock: Clock): Promise<string | null> {
  if (configured !== '') {
    const hash = hashSecret(configured)
    if (await store.getCredential(hash) === null) {
      const { credential } = newCredential('admin', null, null, 'configured', clock.nowUs())
      // The same id on every node that is configured with the key.
      await store.putCredential({ ...credential, id: `configured-${hash.slice(0, 8)}`, hash })
    }
    await store.putSetting(adminKeyMade, '1')
    return null
  }
  if (await store.getSetting(adminKeyMade) !== null) return null
  const key = await addAdminKey(store, 'first start', clock)
  await store.putSetting(adminKeyMade, '1')
  return key
}
