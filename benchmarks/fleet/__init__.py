"""Many hosts at once, beside ansible, pyinfra and plain OpenSSH: the same checks, the same sshd, in turns.

`python -m benchmarks fleet`; what is measured and how is in ../README.md.
"""
