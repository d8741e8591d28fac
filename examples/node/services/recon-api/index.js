'use strict';

const { answer, healthy } = require('../answer');

answer('recon-api', 5103, {
  'GET /recon/health': healthy('recon-api'),
  'POST /recon/jobs/demo': [201, { job: 'demo', status: 'created' }],
});
