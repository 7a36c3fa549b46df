/* What a server is asked to run. */
int main(void) {
    return 0;
}
