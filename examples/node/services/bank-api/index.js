'use strict';

const { answer, healthy } = require('../answer');

answer('bank-api', 5102, { 'GET /health': healthy('bank-api') });
