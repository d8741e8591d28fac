// A stand-in for an API: answers what the probes of inventory.yaml ask, and ends when it is told to.
'use strict';

const http = require('node:http');

function answer(name, usualPort, routes) {
  const server = http.createServer((request, response) => {
    const [status, body] = routes[`${request.method} ${request.url}`] || [404, { error: 'not found' }];
    request.resume();
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  });
  const port = Number(process.env.PORT || usualPort);
  server.on('error', (error) => {
    console.error(`${name}: ${error.message}`);
    process.exit(1);
  });
  server.listen(port, '127.0.0.1', () => console.log(`${name} listening on ${server.address().port}`));
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.on(signal, () => {
      server.close(() => process.exit(0));
      // A keep-alive connection without a request would hold the server open for ever.
      server.closeIdleConnections();
    });
  }
}

const healthy = (name) => [200, { status: 'healthy', service: name }];

module.exports = { answer, healthy };
