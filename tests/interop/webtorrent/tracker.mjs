// bittorrent-tracker on one port of the loopback for HTTP and UDP. Says "ready", then each event with its info-hash.
// Argument: { module, port, allowed } as JSON; `allowed` are the info-hashes that it takes.
const { module, port, allowed } = JSON.parse(process.argv[2])
const { Server } = await import(module)

const server = new Server({
  http: true,
  udp: true,
  ws: false,
  stats: false,
  trustProxy: false,
  interval: 60000,
  filter: (hash, params, done) => done(allowed.includes(hash) ? null : new Error('not on the list'))
})
server.on('error', error => console.log('error', error.message))
server.on('warning', error => console.log('warning', error.message))
for (const event of ['start', 'update', 'complete', 'stop']) {
  server.on(event, (address, params) => console.log(event, params.info_hash, params.left))
}
server.listen(port, { http: '127.0.0.1', udp: '127.0.0.1', udp6: '::1' }, () => console.log('ready'))
