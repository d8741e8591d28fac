// The same service for what pm2 can do with Node alone: node svc.js --port N [--tag TEXT]
'use strict';
const http = require('http');
const flag = (name) => process.argv[process.argv.indexOf(name) + 1];
const server = http.createServer((request, response) => {
  response.writeHead(200, { 'Content-Type': 'application/json', 'X-Pid': process.pid, Connection: 'close' });
  response.end('{"status":"healthy"}');
});
server.listen(Number(flag('--port')), '127.0.0.1', () => process.send && process.send('ready'));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => server.close(() => process.exit(0)));
