'use strict';

const { answer, healthy } = require('../answer');

answer('pg-api', 5101, { 'GET /health': healthy('pg-api') });
