-- The application's database of compose.yaml. A value is what `rekey encrypt` prints.
CREATE DATABASE clinic;
\connect clinic
CREATE TABLE patients (id bigint PRIMARY KEY, ssn text);
