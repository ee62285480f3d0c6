// One WebTorrent client with one torrent, over TCP alone; what is in the folder is looked at first.
// The one argument is a JSON object: webtorrent source folder port encrypted dht pex. Says "complete" on stdout.
import fs from 'node:fs'

const options = JSON.parse(process.argv[2])
const { default: WebTorrent } = await import(options.webtorrent)
const client = new WebTorrent({
  torrentPort: options.port,
  dht: options.dht ? { bootstrap: [options.dht], host: '127.0.0.1' } : false,
  utPex: options.pex,
  lsd: false,
  natUpnp: false,
  natPmp: false,
  utp: false,
  secure: options.encrypted ? 2 : 0,
  uploadLimit: -1,
  downloadLimit: -1
})
client.on('error', error => {
  console.log(`error: ${error.message}`)
  process.exit(1)
})
const source = options.source.startsWith('magnet:') ? options.source : fs.readFileSync(options.source)
const torrent = client.add(source, { path: options.folder })
torrent.on('warning', warning => console.log(`warning: ${warning.message}`))
torrent.on('wire', wire => console.log(`wire: ${wire.remoteAddress}:${wire.remotePort} ${wire.type}`))
torrent.on('metadata', () => console.log('metadata'))
torrent.on('done', () => console.log('\ncomplete'))
