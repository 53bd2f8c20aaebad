'use strict';
const fs = require('node:fs');
const path = require('node:path');
const { main } = require('../lib/cases');
const { version, makeContext, finish } = require('./context');

for (const file of fs.readdirSync(path.join(__dirname, 'cases')).sort()) require(`./cases/${file}`);
main(`bullmq${version}`, makeContext, finish);
