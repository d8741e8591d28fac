'use strict';

const { answer, healthy } = require('../answer');

answer('overview-api', 5105, { 'GET /health': healthy('overview-api') });
