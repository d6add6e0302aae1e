"""The flags that every script here is started with."""

import argparse


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int, help="for STARTTLS")
    parser.add_argument("--tls-port", required=True, type=int, help="for TLS from the first byte")
    parser.add_argument("--domain", required=True)
    parser.add_argument("--password", required=True, help="that of romeo and juliet")
    parser.add_argument("--certificate", required=True, help="the server's, self-signed, in PEM")
    parser.add_argument("--component-port", type=int, help="for components, which know the same password")
    return parser.parse_args()
