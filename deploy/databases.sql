-- The databases of the two servers; run once, by the role that will own them: psql -f deploy/databases.sql
CREATE DATABASE prefect;
CREATE DATABASE mlflow;
