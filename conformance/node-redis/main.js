'use strict';
const fs = require('node:fs');
const path = require('node:path');
const { main } = require('../lib/cases');
const { flavour, makeContext, finish } = require('./context');

for (const file of fs.readdirSync(path.join(__dirname, 'cases')).sort()) require(`./cases/${file}`);
main(`node-redis${flavour}`, makeContext, finish);
