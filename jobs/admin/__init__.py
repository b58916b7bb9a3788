"""The console's pages of jobs, endpoints and runs; `cronicorn.admin` puts them on the site."""
